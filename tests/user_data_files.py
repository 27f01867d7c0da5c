"""User-data in every form that clouds take, good and bad, with what `ssh-keepalive check` says of it."""

import base64
import zlib
from typing import List, NamedTuple


class File(NamedTuple):
    """A file: its content, the exit code for it, and what is said, after the file's name; `openssh` is asked for."""

    name: str
    content: bytes
    code: int
    said: List[str]
    openssh: str = ""

    @property
    def options(self) -> List[str]:
        return ["--openssh", self.openssh] if self.openssh else []


HEAD = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=X\n\n"
GOOD = "#cloud-config\nssh_keepalive: {unresponsive_timeout: 3m}\n"
BAD = "#cloud-config\nhostname: a\nssh_keepalive:\n  unresponsive_timeout: 10s\n"
QUOTED = "#cloud-config\nhostname: a\nssh_keepalive:\n  unresponsive_timeout: =310s\n"
TOO_SHORT = "error: ssh_keepalive.unresponsive_timeout: '10s': expected a time from 15s to 1d, for example 3m"
NONE = ": note: no ssh_keepalive in it"
IGNORED = "error: the first line is not #cloud-config: cloud-init would ignore all of it"
AROUND = ": note: base64 around all of it: not each datasource takes that off, and cloud-init would ignore it then"
UNLISTED = (
    "warning: cloud_init_modules: replaces the image's list, and cloud-init would not run ssh_keepalive: "
    "add - [ssh_keepalive] after ssh"
)
REPLACED = (
    "warning: ssh_keepalive: part 2 replaces it, by default cloud-init does not merge what is in a key: "
    "write it in one part"
)
SIXTY_THREE = (
    "warning: ssh_keepalive.client_alive_interval: 60 x 3 reads like 180 s, but a dead client is disconnected after "
    "240 s, on OpenSSH 9.2 to 9.4 after 420 to 480 s: use unresponsive_timeout, which means the same everywhere"
)


IDLE = b"#cloud-config\nssh_keepalive:\n  unresponsive_timeout: 3m\n  idle_timeout: 15m\n"
NO_TIMEOUT = (
    "OpenSSH 8.4 has no ChannelTimeout: set idle_fallback: tmout, which ends bash and ksh at their prompt and nothing "
    "else, remove idle_timeout, or use OpenSSH 9.2 or later"
)
MATCH = (
    b"#cloud-config\nssh_keepalive:\n  unresponsive_timeout: 3m\n  match:\n"
    b"  - {user: [a, b*], unresponsive_timeout: 1h}\n  - {address: 10.0.0.0/8, idle_timeout: none}\n"
)
NO_MATCH = "OpenSSH 10.2 ignores ChannelTimeout in Match: remove it, or use OpenSSH 10.5 or later"


def mime(*parts):
    """Return a multi-part of parts that are headers, without those that all have, and a body."""
    texts = ["--X\n{}\n\n{}".format(headers, body) for headers, body in parts]
    return (HEAD + "\n".join(texts) + "\n--X--\n").encode()


def config(body, name="", more=""):
    """Return a part of cloud-config."""
    filename = '\nContent-Disposition: attachment; filename="{}"'.format(name) if name else ""
    return "Content-Type: text/cloud-config" + filename + more, body


def encoded(text):
    """Return a text in base64, in lines."""
    return base64.encodebytes(text if isinstance(text, bytes) else text.encode()).decode()


def zipped(content):
    """Return a gzip file that is the same at every run."""
    compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return compressor.compress(content if isinstance(content, bytes) else content.encode()) + compressor.flush()


BASE64 = "\nContent-Transfer-Encoding: base64"
BILLION = "".join("{1}: &{1} [{0}]\n".format(",".join(["*" + a] * 9), b) for a, b in zip("abcdefgh", "bcdefghi"))

FILES = [
    # cloud-config
    File("a-policy", GOOD.encode(), 0, []),
    File("true", b"#cloud-config\nssh_keepalive: true\n", 0, []),
    File("null", b"#cloud-config\nssh_keepalive:\n", 0, [":2:15: note: ssh_keepalive: null counts as absent"]),
    File("without-the-key", b"#cloud-config\nhostname: a\n", 0, [NONE]),
    File(
        "articles-pair",
        b"#cloud-config\nssh_keepalive:\n  client_alive_interval: 60\n  client_alive_count_max: 3\n",
        0,
        [":3:26: " + SIXTY_THREE],
    ),
    File("a-wrong-value", BAD.encode(), 1, [":4:25: " + TOO_SHORT]),
    File(
        "every-mistake-at-once",
        b"#cloud-config\nssh_keepalive:\n  enabled: maybe\n  idel_timeout: 15m\n  unresponsive_timeout: 10s\n",
        1,
        [
            ":3:12: error: ssh_keepalive.enabled: 'maybe': expected true or false, for example true",
            ":4:3: error: ssh_keepalive.idel_timeout: unknown key, did you mean idle_timeout?",
            ":5:25: " + TOO_SHORT,
        ],
    ),
    File(
        "a-time-instead-of-a-mapping",
        b"#cloud-config\nssh_keepalive: 3m\n",
        1,
        [
            ":2:16: error: ssh_keepalive: '3m': expected true, false or a mapping of keys, "
            "for example {unresponsive_timeout: 3m}"
        ],
    ),
    File(
        "the-key-misspelled",
        b"#cloud-config\nssh-keepalive: true\n",
        1,
        [":2:1: error: ssh-keepalive: unknown key, did you mean ssh_keepalive?"],
    ),
    File("crlf", BAD.replace("\n", "\r\n").encode(), 1, [":4:25: " + TOO_SHORT]),
    File("blanks-before-another-case", ("\n  #Cloud-Config\n" + GOOD).encode(), 0, []),
    File(
        "a-byte-order-mark",
        b"\xef\xbb\xbf" + GOOD.encode(),
        1,
        [":1:1: error: a byte order mark hides #cloud-config from cloud-init: save it as UTF-8 without one"],
    ),
    File(
        "utf-16",
        GOOD.encode("utf-16"),
        1,
        [":1:1: error: a byte order mark hides #cloud-config from cloud-init: save it as UTF-8 without one"],
    ),
    File("latin-1", "#cloud-config\n# für\n".encode("latin-1"), 1, [":2:4: error: byte 0xFC is not UTF-8"]),
    File("empty", b"", 1, [": error: empty"]),
    File("blanks-only", b" \n\n", 1, [": error: empty"]),
    File("no-first-line", b"ssh_keepalive: true\n", 1, [":1:1: " + IGNORED]),
    File("first-line-with-a-blank", b"# cloud-config\nssh_keepalive: true\n", 1, [":1:1: " + IGNORED]),
    File(
        "first-line-alone",
        b"#cloud-config\n",
        1,
        [":1:1: error: nothing but comments, cloud-init ignores it with a warning"],
    ),
    File(
        "a-list-at-the-top",
        b"#cloud-config\n- ssh_keepalive\n",
        1,
        [":2:1: error: expected keys with values, cloud-init ignores anything else"],
    ),
    File(
        "not-yaml",
        b"#cloud-config\nssh_keepalive: {enabled: true\n",
        1,
        [":3:1: error: not YAML: expected ',' or '}', but got '<stream end>', while parsing a flow mapping"],
    ),
    File(
        "a-tab",
        b"#cloud-config\nssh_keepalive:\n\tenabled: true\n",
        1,
        [":3:1: error: not YAML: a tab, indent with spaces"],
    ),
    File(
        "two-documents",
        b"#cloud-config\nhostname: a\n---\nssh_keepalive: true\n",
        1,
        [":3:1: error: a second document, cloud-init takes files with one only"],
    ),
    File(
        "a-nul-byte",
        b"#cloud-config\nssh_keepalive: t\0rue\n",
        1,
        [":2:17: error: character U+0000 is not allowed in YAML"],
    ),
    File(
        "a-key-twice",
        b"#cloud-config\nssh_keepalive:\n  enabled: true\n  enabled: false\n",
        1,
        [":4:3: error: ssh_keepalive.enabled: a second time, after line 3: YAML keeps the last one only"],
    ),
    File(
        "the-section-twice",
        b"#cloud-config\nssh_keepalive: {unresponsive_timeout: 10s}\nssh_keepalive: true\n",
        1,
        [":3:1: error: ssh_keepalive: a second time, after line 2: YAML keeps the last one only"],
    ),
    File(
        "another-key-twice",
        b"#cloud-config\nwrite_files:\n- path: /a\n  path: /b\nssh_keepalive: true\n",
        1,
        [":4:3: error: write_files[0].path: a second time, after line 3: YAML keeps the last one only"],
    ),
    File(
        "an-alias",
        b"#cloud-config\nx: &t 10s\nssh_keepalive: {unresponsive_timeout: *t}\n",
        1,
        [":3:39: " + TOO_SHORT],
    ),
    File(
        "merged-keys",
        b"#cloud-config\nx: &all\n  unresponsive_timeout: 10s\nssh_keepalive:\n  <<: *all\n  tcp_keep_alive: true\n",
        1,
        [":3:25: " + TOO_SHORT],
    ),
    File(
        "merged-keys-overridden",
        b"#cloud-config\nx: &all {unresponsive_timeout: 10s}\nssh_keepalive: {<<: *all, unresponsive_timeout: 3m}\n",
        0,
        [],
    ),
    File(
        "base-sixty",
        b"#cloud-config\nssh_keepalive: {unresponsive_timeout: 1:30}\n",
        0,
        [
            ":2:39: warning: ssh_keepalive.unresponsive_timeout: YAML 1.1 reads 1:30 as 90: "
            "put it in quotes if it is meant as written"
        ],
    ),
    File(
        "octal",
        b"#cloud-config\nssh_keepalive: {unresponsive_timeout: 010}\n",
        1,
        [
            ":2:39: error: ssh_keepalive.unresponsive_timeout: 8: expected a time from 15s to 1d, for example 3m",
            ":2:39: warning: ssh_keepalive.unresponsive_timeout: YAML 1.1 reads 010 as 8: "
            "put it in quotes if it is meant as written",
        ],
    ),
    File("a-boolean-of-yaml-1.1", b"#cloud-config\nssh_keepalive: off\n", 0, []),
    File(
        "a-boolean-where-none-is-meant",
        b"#cloud-config\nssh_keepalive: {unresponsive_timeout: on}\n",
        1,
        [
            ":2:39: error: ssh_keepalive.unresponsive_timeout: True: expected a time from 15s to 1d, for example 3m",
            ":2:39: note: ssh_keepalive.unresponsive_timeout: YAML 1.1 reads on as true: "
            "put it in quotes if it is meant as written",
        ],
    ),
    File(
        "a-billion-laughs",
        b"#cloud-config\na: &a [1,2,3,4,5,6,7,8,9]\n" + BILLION.encode() + b"ssh_keepalive: true\n",
        1,
        [":6:4: error: more than 50000 values once its aliases are expanded"],
    ),
    File(
        "an-alias-within-itself",
        b"#cloud-config\nssh_keepalive: &a {enabled: *a}\n",
        1,
        [":2:29: error: alias *a within what it stands for"],
    ),
    File(
        "a-hundred-thousand-deep",
        b"#cloud-config\na: " + b"[" * 100000,
        1,
        [":2:53: error: nested more than 50 deep"],
    ),
    File(
        "five-mebibytes",
        GOOD.encode() + b"#" * (5 << 20),
        1,
        [": error: more than 4 MiB, not checked: clouds take 16 to 256 KiB"],
    ),
    # What a certain OpenSSH can do
    File("idle", IDLE, 0, []),
    File("idle-where-sshd-can", IDLE, 0, [], "debian-12"),
    File("idle-where-sshd-cannot", IDLE, 1, [":4:17: error: ssh_keepalive.idle_timeout: 900: " + NO_TIMEOUT], "8.4p1"),
    File("idle-where-tmout-can", IDLE + b"  idle_fallback: tmout\n", 0, [], "debian-11"),
    File(
        "idle-alone-and-short",
        b"#cloud-config\nssh_keepalive: {idle_timeout: 5m}\n",
        0,
        [
            ":2:31: warning: ssh_keepalive.idle_timeout: a client that stopped answering stays until it counts as idle"
            ": add unresponsive_timeout",
            ":2:31: warning: ssh_keepalive.idle_timeout: ends a command that prints nothing for so long, such as "
            "a backup or an Ansible task: add idle_command_timeout, a longer time for commands and sftp",
        ],
    ),
    File("match", MATCH, 0, []),
    File("match-where-sshd-can", MATCH, 0, [], "OpenSSH_10.5p1"),
    File(
        "match-where-sshd-cannot",
        MATCH,
        1,
        [":6:41: error: ssh_keepalive.match[1].idle_timeout: none: " + NO_MATCH],
        "ubuntu-26.04",
    ),
    File(
        "match-with-the-pair",
        b"#cloud-config\nssh_keepalive:\n  match:\n  - {user: a, client_alive_interval: 60, idle_timeout: none}\n",
        0,
        [":4:38: " + SIXTY_THREE.replace("keepalive.", "keepalive.match[0].")],
    ),
    File(
        "match-with-mistakes",
        b"#cloud-config\nssh_keepalive:\n  match:\n  - {usr: a, idle_timeout: 1h}\n"
        b"  - {user: 'a b', tcp_keep_alive: on}\n",
        1,
        [
            ":4:5: error: ssh_keepalive.match[0]: expected one of user, group, address, found none",
            ":4:6: error: ssh_keepalive.match[0].usr: unknown key, did you mean user?",
            ":5:5: error: ssh_keepalive.match[1]: sets no time: add one of unresponsive_timeout, client_alive_interval"
            ", client_alive_count_max, idle_timeout, idle_command_timeout, or remove the match entry",
            ":5:12: error: ssh_keepalive.match[1].user: 'a b': expected a pattern or a list of them (letters, digits"
            ", . _ - @ + $, ? for one character, at most two * for any text), for example backup; "
            "write ? in place of a space or a backslash: 'a?b'",
            ":5:19: error: ssh_keepalive.match[1].tcp_keep_alive: not in match, it holds for the whole machine: "
            "put it beside match",
        ],
    ),
    File("off-where-nothing-can", b"#cloud-config\nssh_keepalive: false\n", 0, [], "rhel-8"),
    # lists of modules
    File("a-list", GOOD.encode() + b"cloud_init_modules: [users_groups, ssh]\n", 0, [":3:1: " + UNLISTED]),
    File("a-list-and-no-section", b"#cloud-config\ncloud_init_modules:\n- ssh\n", 0, [NONE, ":2:1: " + UNLISTED]),
    File("no-list", GOOD.encode() + b"cloud_init_modules: null\n", 0, [":3:1: " + UNLISTED]),
    File("a-list-with-it", GOOD.encode() + b"cloud_init_modules: [ssh, [ssh-keepalive, always]]\n", 0, []),
    File(
        "a-list-without-it-and-one-with-it",
        GOOD.encode() + b"cloud_init_modules: [ssh]\ncloud_config_modules: [cc_ssh_keepalive.py]\n",
        0,
        [],
    ),
    File("another-list", GOOD.encode() + b"cloud_config_modules: [locale]\n", 0, []),
    File(
        "a-list-in-a-part-that-a-later-one-replaces",
        mime(
            config("#cloud-config\ncloud_init_modules: [ssh]\n"), config(GOOD + "cloud_init_modules: [ssh_keepalive]\n")
        ),
        0,
        [],
    ),
    # around it
    File("gzip", zipped(BAD), 1, [":4:25: " + TOO_SHORT]),
    File("gzip-good", zipped(GOOD), 0, []),
    File("base64", encoded(BAD).encode(), 1, [AROUND, ":4:25: " + TOO_SHORT]),
    File("gzip-in-base64", base64.b64encode(zipped(BAD)), 1, [AROUND, ":4:25: " + TOO_SHORT]),
    File(
        "a-gzip-bomb",
        zipped(b"#cloud-config\n" + b"a" * (100 << 20)),
        1,
        [": error: more than 4 MiB, not checked: clouds take 16 to 256 KiB"],
    ),
    File(
        "gzip-cut-off",
        zipped(BAD)[:-12],
        1,
        [": error: gzip that cannot be unpacked: Compressed file ended before the end-of-stream marker was reached"],
    ),
    # MIME
    File("mime", mime(config(GOOD)), 0, []),
    File(
        "mime-bad",
        mime(config(GOOD), config(BAD, "b.yaml")),
        1,
        [" (part 1):2:1: " + REPLACED, " (part 2, b.yaml):4:25: " + TOO_SHORT],
    ),
    File("mime-without-a-first-line", mime(config("ssh_keepalive: true\n")), 0, []),
    File(
        "mime-plain-text",
        mime(("Content-Type: text/plain", GOOD), ("Content-Type: text/plain", "hostname: a\n")),
        1,
        [" (part 2):1:1: " + IGNORED],
    ),
    File("mime-of-two-sections", mime(config(BAD, "a.yaml"), config(GOOD)), 0, [" (part 1, a.yaml):3:1: " + REPLACED]),
    File(
        "mime-with-a-null-section",
        mime(config(BAD), config("ssh_keepalive:\n")),
        0,
        [" (part 1):3:1: " + REPLACED, " (part 2):1:15: note: ssh_keepalive: null counts as absent"],
    ),
    File("mime-in-base64", mime(config(encoded(BAD), more=BASE64)), 1, [" (part 1):4:25: " + TOO_SHORT]),
    File(
        "mime-quoted-printable",
        mime(config(QUOTED, more="\nContent-Transfer-Encoding: quoted-printable")),
        1,
        [" (part 1):4:25: " + TOO_SHORT],
    ),
    File(
        "gzip-in-mime",
        mime(("Content-Type: application/x-gzip" + BASE64, encoded(zipped(BAD)))),
        1,
        [" (part 1):4:25: " + TOO_SHORT],
    ),
    File("mime-in-gzip", zipped(mime(config(BAD))), 1, [" (part 1):4:25: " + TOO_SHORT]),
    File(
        "mime-with-an-umlaut",
        mime(config("#cloud-config\n# für\nssh_keepalive: true\n", more="\nContent-Transfer-Encoding: 8bit")),
        1,
        [
            " (part 1):2:4: error: a character outside ASCII, which cloud-init loses in MIME: "
            "encode the part with base64"
        ],
    ),
    File(
        "mime-with-an-umlaut-in-base64",
        mime(config(encoded("#cloud-config\n# für\nssh_keepalive: true\n"), more=BASE64)),
        0,
        [],
    ),
    File(
        "mime-in-mime",
        mime(("Content-Type: multipart/mixed; boundary=Y", "--Y\n\n" + BAD + "\n--Y--")),
        1,
        [" (part 1):4:25: " + TOO_SHORT],
    ),
    File(
        "mime-without-its-boundary",
        HEAD.encode() + GOOD.encode(),
        1,
        [": error: MIME multi-part in which no part is found: is its boundary the one that stands in the header?"],
    ),
    File(
        "mime-with-a-broken-part",
        mime(config("#cloud-config\na: [\n"), config(BAD)),
        1,
        [
            " (part 1):3:1: error: not YAML: expected the node content, but found '<stream end>', "
            "while parsing a flow node",
            " (part 2):4:25: " + TOO_SHORT,
        ],
    ),
    # Archives
    File(
        "an-archive",
        b"#cloud-config-archive\n- |\n  ssh_keepalive:\n    unresponsive_timeout: 10s\n"
        b"- {type: text/x-other, content: a}\n",
        1,
        [" (part 1):2:25: " + TOO_SHORT, " (part 2): note: not checked: a part of type text/x-other"],
    ),
    File(
        "an-archive-that-is-a-mapping",
        b"#cloud-config-archive\nssh_keepalive: true\n",
        1,
        [":2:1: error: expected a list of parts"],
    ),
    # What cannot be checked
    File(
        "a-template",
        b"## template: jinja\n#cloud-config\nssh_keepalive: {{ x }}\n",
        0,
        [": note: not checked: a template (## template: jinja)"],
    ),
    File("an-include", b"#include\nhttps://example.org/a\n", 0, [": note: not checked: what #include fetches"]),
    File(
        "an-include-once",
        b"#include-once https://example.org/a\n",
        0,
        [": note: not checked: what #include-once fetches"],
    ),
    File("a-script", b"#!/bin/sh\necho\n", 0, [": note: not checked: a script"]),
    File("a-boothook", b"#cloud-boothook\n#!/bin/sh\n", 0, [": note: not checked: a boothook (#cloud-boothook)"]),
    File(
        "a-part-handler",
        b"#part-handler\ndef list_types(): return []\n",
        0,
        [": note: not checked: a part-handler (#part-handler)"],
    ),
    File(
        "a-json-patch",
        b'#cloud-config-jsonp\n[{"op": "add", "path": "/ssh_keepalive", "value": true}]\n',
        0,
        [": note: not checked: a JSON patch (#cloud-config-jsonp)"],
    ),
    File(
        "merge-how-alone",
        GOOD.encode() + b"merge_how: dict(recurse_dict)+list()\n",
        0,
        [": note: not checked: how merge_how merges it"],
    ),
    File(
        "merge-how-with-two",
        mime(config(BAD), config(BAD + "merge_type: dict(recurse_dict)\n")),
        0,
        [" (part 2):3:1: note: ssh_keepalive: not checked, since merge_type merges it with an earlier part's"],
    ),
    File(
        "merge-header-with-two",
        mime(config(BAD), config(BAD, more="\nX-Merge-Type: dict(recurse_dict)")),
        0,
        [" (part 2):3:1: note: ssh_keepalive: not checked, since X-Merge-Type merges it with an earlier part's"],
    ),
    File(
        "a-launch-index",
        mime(config(GOOD, more="\nLaunch-Index: 1")),
        0,
        [" (part 1): note: not checked: which machines the launch-index means"],
    ),
]
