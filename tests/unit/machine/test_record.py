"""What a server has read, by the first evidence that there is."""

import os
import time
import types
from pathlib import Path

import pytest
from ssh_keepalive.machine import processes, record, servers
from ssh_keepalive.machine.record import Entry, Inputs, Reading, Record

POLICY = {"unresponsive_timeout": 180}
# Seconds since the boot, and since the epoch, in these tests
UPTIME, NOW = 100000.0, 1800000000.0
TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def clock(monkeypatch):
    """Have clocks that stand still; one that is set is off by some seconds from then on."""

    class Clock:
        off = 0.0

        def set(self, seconds):
            self.off = seconds

    clock = Clock()
    monkeypatch.setattr(time, "time", lambda: NOW + clock.off)
    monkeypatch.setattr(time, "clock_gettime", lambda number: UPTIME)
    return clock


def listener(began=UPTIME - 1000, pid=7, sockets=(11, 12)):
    return processes.Listener(pid, 1, int(began * TICKS), sockets, (("0.0.0.0", 22),), "/usr/sbin/sshd", ("-D",))


def server(found=None, **changes):
    return servers.Server(
        "/usr/sbin/sshd", "/etc/ssh/sshd_config", servers.Arguments(), listener=found or listener(), **changes
    )


def at(seconds):
    """Return what a file is that has changed that many seconds ago, in whose clock."""
    return [1, 2, int((NOW - seconds) * 1e9), 10, "hash"]


def inputs(main=5000, drop_in=5000, folder=5000):
    files = {"/main": at(main), "/drop-in": at(drop_in)}
    return Inputs(files, {"/folder": int((NOW - folder) * 1e9)})


def noted(entry, ago=100, clock_then=None):
    lead = NOW - UPTIME if clock_then is None else clock_then
    return Record(UPTIME - ago, lead, (entry,))


def read(found, now, note=None, pid_file="none"):
    return record.reading(found, now, note, pid_file)


def test_one_that_does_not_run_reads_what_is_there_now(clock):
    idle = server()._replace(listener=None)
    assert read(idle, inputs(main=0)) == Reading(True)


KEY = record.key(server())


def test_the_one_that_was_noted_has_read_what_was_noted_whatever_times_say(clock):
    note = noted(Entry(KEY, inputs(), POLICY, record.generation(listener())))
    touched = inputs(main=-5, drop_in=-5, folder=-5)
    clock.set(-7200)
    assert read(server(), touched, note) == Reading(True, (), POLICY, True)


def test_the_one_that_was_noted_has_not_read_other_bytes(clock):
    note = noted(Entry(KEY, inputs(), POLICY, record.generation(listener())))
    now = inputs()
    now.files["/main"][4] = "other"
    now.files["/new"] = at(5000)
    del now.files["/drop-in"]
    assert read(server(), now, note) == Reading(False, ("/drop-in", "/main", "/new"), POLICY, True)


@pytest.mark.parametrize("changes", [{"pid": 8}, {"sockets": (13, 14)}, {"began": UPTIME - 999}], ids=str)
def test_another_generation_is_not_the_one_that_was_noted(clock, changes):
    note = noted(Entry(KEY, inputs(), POLICY, record.generation(listener())), ago=1000)
    now = inputs(main=-5)
    assert read(server(listener(**changes)), now, note) == Reading(None, ("/main",))


def test_another_server_is_not_the_one_that_was_noted(clock):
    note = noted(Entry(KEY + " -4", inputs(), POLICY, record.generation(listener())))
    assert read(server(), inputs(), note).is_current is None


def test_one_that_began_later_has_read_what_has_not_changed_since(clock):
    note = noted(Entry(KEY, inputs(), POLICY, None), ago=2000)
    assert read(server(), inputs(), note) == Reading(True, (), POLICY, True)
    # Whatever the clock says now
    clock.set(-7200)
    assert read(server(), inputs(), note) == Reading(True, (), POLICY, True)


@pytest.mark.parametrize(
    "changed",
    [inputs(main=0), inputs(folder=0), Inputs({"/main": at(5000)}, {}), inputs()._replace(folders={"/other": 0})],
)
def test_one_that_began_later_may_not_have_read_what_has_changed_since(clock, changed):
    note = noted(Entry(KEY, inputs(), POLICY, None), ago=2000, clock_then=0.0)
    assert read(server(), changed, note).is_noted is False


def test_one_that_began_before_the_record_is_not_told_by_it(clock):
    note = noted(Entry(KEY, inputs(), POLICY, None), ago=900)
    assert read(server(), inputs(), note).is_current is None


@pytest.fixture
def pid_file(tmp_path, monkeypatch):
    """Return a function that has a PID file written some seconds ago, 2 s after the start if it does not say."""
    stat = os.stat

    def write(ago=998, pid=7, touched=None):
        file = tmp_path / "sshd.pid"
        file.write_text("{}\n".format(pid))
        status = stat(str(file))
        times = {"st_mtime": NOW - ago, "st_ctime": NOW - (ago if touched is None else touched)}
        seen = types.SimpleNamespace(st_mode=status.st_mode, **times)
        monkeypatch.setattr(os, "stat", lambda path, **how: seen if path == str(file) else stat(path, **how))
        return str(file)

    return write


STEADY = {"steady_since": int((UPTIME - 2000) * TICKS)}


@pytest.mark.parametrize(
    ("changes", "ago", "changed"),
    [
        # By the start, where the PID file is another's, or none
        (STEADY, None, ()),
        ({}, None, ("/drop-in", "/folder", "/main")),
        # By the PID file and the start
        (STEADY, 998, ()),
        ({}, 998, ()),
        # After a HUP
        (STEADY, 10, ()),
    ],
)
def test_what_is_older_than_the_start_has_been_read(clock, pid_file, changes, ago, changed):
    file = "none" if ago is None else pid_file(ago)
    found = read(server(**changes), inputs(1001, 1001, 1001), None, file)
    assert found == Reading(None if changed else True, changed)


@pytest.mark.parametrize(
    ("main", "ago", "changed"),
    [
        (999, 998, ("/main",)),
        # After a HUP, the start counts where nothing shows that the clock was not set
        (500, 10, ("/main",)),
        (5, 10, ("/main",)),
    ],
)
def test_what_is_younger_may_not_have_been_read(clock, pid_file, main, ago, changed):
    assert read(server(), inputs(main), None, pid_file(ago)) == Reading(None, changed)


@pytest.mark.parametrize(("main", "current"), [(500, True), (11, True), (9, None)])
def test_after_a_hup_the_pid_file_counts_where_the_clock_was_not_set(clock, pid_file, main, current):
    assert read(server(**STEADY), inputs(main), None, pid_file(10)).is_current is current


@pytest.mark.parametrize("pid", [8, 0])
def test_a_pid_file_of_another_process_does_not_count(clock, pid_file, pid):
    assert read(server(**STEADY), inputs(500), None, pid_file(10, pid)) == Reading(None, ("/main",))


def test_a_pid_file_that_others_have_touched_does_not_count(clock, pid_file):
    assert read(server(**STEADY), inputs(500), None, pid_file(10, touched=5)) == Reading(None, ("/main",))


def test_steadiness_counts_for_those_who_began_after_it_alone(clock):
    later = {"steady_since": int((UPTIME - 999) * TICKS)}
    assert read(server(**later), inputs()).is_current is None


@pytest.mark.parametrize("seconds", [7200, -7200])
def test_a_clock_that_was_set_since_the_record_makes_its_start_doubtful(clock, seconds):
    # The files were written by the clock as it was before, a second before it was noted.
    note = noted(Entry("another", inputs(), POLICY, None), ago=1500)
    assert read(server(), inputs(), note).is_current is True
    clock.set(seconds)
    assert read(server(), inputs(), note).is_current is None


@pytest.mark.parametrize(("seconds", "current"), [(-7200, None), (0, True)])
def test_a_signal_after_the_record_is_on_a_clock_that_was_not_set_since(clock, pid_file, seconds, current):
    # Without a unit whose start would tell whether the clock was set.
    note = noted(Entry("another", inputs(), POLICY, None), ago=500)
    file = pid_file(300)
    alone = server(steady_since=None)
    assert read(alone, inputs(400), note, file).is_current is True
    assert read(alone, inputs(200), note, file).is_current is None
    clock.set(seconds)
    assert read(alone, inputs(400), note, file).is_current is current


def test_a_pid_file_of_before_the_record_does_not_tell_that_the_clock_was_not_set(clock, pid_file):
    # It is from before the clock was set back by an hour, and the record from after that.
    file = pid_file(990 - 3600)
    entry = Entry(record.key(server()), inputs(main=50), POLICY, record.generation(listener()), has_read=False)
    note = noted(entry, ago=45)._replace(seen=[record.generation(listener())])
    alone = server(steady_since=None)
    assert read(alone, inputs(main=50), note, file).is_current is None
    # Nor does it where nothing was noted but that it was there.
    assert read(alone, inputs(main=50), note._replace(entries=()), file).is_current is None


@pytest.mark.parametrize(("seconds", "current"), [(-7200, None), (7200, True), (0, True)])
def test_a_clock_that_was_set_since_the_start_moves_the_start_and_not_the_pid_file(clock, pid_file, seconds, current):
    file = pid_file(998)
    clock.set(seconds)
    # It was changed after the start by nobody: set backwards, the start seems to be before the files.
    assert read(server(), inputs(2000, 2000, 2000), None, file).is_current is current


def test_a_change_after_the_start_is_seen_when_the_clock_was_set_forwards(clock, pid_file):
    file = pid_file(998)
    clock.set(7200)
    # The start seems to be later than it was, the PID file knows better.
    assert read(server(), inputs(500), None, file) == Reading(None, ("/main",))


def test_what_was_noted_is_loaded(machine):
    entries = (Entry("a", inputs(), POLICY, [7, 100, [1, 2]]), Entry("b", Inputs({}, {}), None, None))
    before = processes.since_boot()
    record.save(entries, [server()], machine.host())
    found = record.load(machine.host())
    assert found.entries == entries
    assert found.seen == [[7, int((UPTIME - 1000) * TICKS), [11, 12]]]
    assert before <= found.at <= processes.since_boot()
    assert found.clock == pytest.approx(processes.clock(), abs=1)
    assert machine.record.stat().st_mode & 0o777 == 0o600
    record.forget(machine.host())
    assert record.load(machine.host()) is None
    record.forget(machine.host())


def test_what_was_noted_is_nothing_after_a_reboot(machine):
    record.save((), (), machine.host())
    machine.proc.boots("another")
    assert record.load(machine.host()) is None


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"boot": "x"}', "{{", '{"boot": "BOOT", "at": 1, "entries": [[1]]}']
)
def test_what_makes_no_sense_is_no_record(machine, text):
    boot = Path(machine.proc.folder, "sys/kernel/random/boot_id").read_text().strip()
    machine.record.write_text(text.replace("BOOT", boot))
    assert record.load(machine.host()) is None


def test_a_record_that_cannot_be_written_is_none(machine):
    machine.record.mkdir()
    record.save((), (), machine.host())
    assert record.load(machine.host()) is None


def test_a_pipe_is_identified_without_waiting_for_it(tmp_path):
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    assert list(record.identify([pipe], []).files) == [pipe]


def test_a_folder_that_no_longer_fits_a_pattern_shows(tmp_path):
    (tmp_path / "site-a" / "conf.d").mkdir(parents=True)
    (tmp_path / "site-b").mkdir()
    pattern = str(tmp_path / "site-*" / "conf.d")
    before = record.identify((), (pattern,))
    time.sleep(0.02)
    (tmp_path / "site-a" / "conf.d").rename(tmp_path / "site-a" / "off")
    assert str(tmp_path / "site-a") in record.identify((), (pattern,)).differs_from(before)


def test_files_and_folders_are_identified(tmp_path):
    file, link, folder = tmp_path / "file", tmp_path / "link", tmp_path / "folder"
    file.write_text("x")
    link.symlink_to(file)
    folder.mkdir()

    def now():
        return record.identify([str(file), str(link), str(tmp_path / "none")], [str(folder), str(tmp_path / "none.d")])

    before = now()
    assert set(before.files) == {str(file), str(link)}
    # Of one that is not there, the folder counts in which it would be.
    assert set(before.folders) == {str(folder), str(tmp_path / "none.d")}
    assert now().differs_from(before) == ()
    time.sleep(0.03)
    file.write_text("y")
    assert now().differs_from(before) == now().differs_from(before, by_content=True) == (str(file), str(link))
    file.write_text("x")
    assert now().differs_from(before) == (str(file), str(link))
    assert now().differs_from(before, by_content=True) == ()
    (folder / "new").touch()
    assert str(folder) in now().differs_from(before)
    assert before.without(str(link)).files.keys() == {str(file)}


@pytest.mark.parametrize(
    ("sockets", "current"),
    [((11, 12), None), ((13, 14), True), ((11, 12, 13), None)],
    ids=["the same", "others", "one more"],
)
def test_the_pid_file_of_a_start_counts_after_a_signal_alone(clock, pid_file, sockets, current):
    # What has changed between the start and the PID file, where it was noted that nothing is known of that
    entry = Entry(KEY, inputs(), POLICY, record.generation(listener()), has_read=False)
    now = server(listener(sockets=sockets), **STEADY)
    assert read(now, inputs(main=999.5), noted(entry), pid_file(999)).is_current is current
