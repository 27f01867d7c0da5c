"""Where an image's Pythons look for packages."""

from images import PACKAGES, make, refused
from ssh_keepalive.image import python_folders

DEBIAN = "/" + PACKAGES


def test_folders_of_each_python_3_and_of_no_other(folder, root):
    others = ("usr/lib/python2.7/dist-packages", "usr/lib/python3-x/dist-packages", "usr/lib/ruby/site-packages")
    fitting = ("usr/lib64/python3.9/site-packages", "usr/local/lib/python3.11/dist-packages")
    make(folder, {name + "/x": "" for name in others + fitting})
    assert set(python_folders.find(root)) >= {DEBIAN, *("/" + name for name in fitting)}
    assert not {"/" + name for name in others} & set(python_folders.find(root))


def test_lib64_that_is_lib_counts_once(folder, root):
    (folder / "usr/lib64").symlink_to("lib")
    assert [name for name in python_folders.find(root) if name.endswith("dist-packages")] == [DEBIAN]
    assert python_folders.of_cloud_init(root) == DEBIAN


def test_a_python_shares_folders_with_its_own_version_and_debians(folder, root):
    names = (
        "usr/lib/python3.11/site-packages",
        "usr/local/lib/python3.11/dist-packages",
        "usr/lib/python3.13/site-packages",
    )
    make(folder, {name + "/x": "" for name in names})
    shared = {name for name in python_folders.shared_with(root, "/" + names[0]) if root.exists(name)}
    assert shared == {DEBIAN, "/" + names[0], "/" + names[1]}


def test_one_cloud_init_and_no_more(folder):
    (folder / PACKAGES / "cloudinit/version.py").rename(folder / "version.py")
    message = "no cloud-init in /usr/lib/python3* or /usr/local/lib/python3*, install it first"
    assert refused(folder, python_folders.of_cloud_init) == message
    names = [PACKAGES, "usr/local/lib/python3.11/site-packages"]
    make(folder, {name + "/cloudinit/version.py": "" for name in names})
    message = "more than one cloud-init, remove all but one: /{}, /{}".format(*names)
    assert refused(folder, python_folders.of_cloud_init) == message
