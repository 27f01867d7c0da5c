#!/bin/sh
# Build the .deb and the .rpm of this tree, which needs no .git, into a folder: packaging/build.sh DIR
# The same tree gives the same bytes; version and SOURCE_DATE_EPOCH come from debian/changelog.in.
set -eu
umask 022
mkdir -p "$1"
out=$(realpath "$1")
tree=$(realpath "$(dirname "$0")/..")
field() {
    dpkg-parsechangelog --file "$tree/packaging/debian/changelog.in" --show-field "$1"
}
version=$(field Version)
SOURCE_DATE_EPOCH=$(field Timestamp)
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8 TZ=UTC

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
source=$work/cloud-init-ssh-keepalive-$version
mkdir "$source"
# Of the times, only those after SOURCE_DATE_EPOCH would be set to it.
(cd "$tree" && tar -c --mtime="@$SOURCE_DATE_EPOCH" --mode=u=rwX,go=rX --exclude='*.egg-info' --exclude=__pycache__ \
    CHANGELOG.md LICENSE* README.md cloudinit_module examples packaging pyproject.toml schema setup.cfg setup.py) |
    tar -x --no-same-owner -C "$source"
PYTHONPATH=$source/cloudinit_module python3 -B "$source/packaging/template.py" "$source"/packaging/*/*.in
cp -r "$source/packaging/debian" "$source/debian"

build() {
    cd "$source"
    # -d: always asked for is build-essential, with a compiler that has nothing to do here.
    dpkg-buildpackage -d -b -us -uc &&
        # The tree is what %prep would unpack; %{_sourcedir} needs no tarball then.
        rpmbuild -bb --build-in-place --nodeps --define "_topdir $work/rpm" --define "_dbpath $work/rpmdb" \
            packaging/rpm/cloud-init-ssh-keepalive.spec
}

if ! (build) >"$work/log" 2>&1; then
    cat "$work/log" >&2
    exit 1
fi
cp "$work"/*.deb "$work"/rpm/RPMS/noarch/*.rpm "$out"
