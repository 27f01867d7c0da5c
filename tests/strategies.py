"""Sections of user-data as hypothesis draws them: what is accepted, and whatever else YAML can say."""

from __future__ import annotations

import ipaddress
import os
import re

from hypothesis import settings
from hypothesis import strategies as st
from ssh_keepalive.openssh import Connection
from ssh_keepalive.policy import load_schema

# The same draws for everybody on CI, new ones at each run elsewhere; a shared machine has no steady speed.
settings.register_profile("keepalive", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("keepalive")

SECTION = load_schema()["properties"]["ssh_keepalive"]
NAME = SECTION["properties"]["match"]["items"]["properties"]["user"]["pattern"]
LETTERS = "ab01_.@+$-AZ"

# Those who log in in the tests, and patterns that fit some of them
PEOPLE = ["root", "ordinary", "*", "?*", "r*", "*t", "?oot", "ord*y", "Root", "ordinar"]
PLACES = [
    "127.0.0.1",
    "127.0.0.0/8",
    "::1",
    "::/0",
    "0.0.0.0/0",
    "10.0.0.0/08",
    "::FFFF:0:192.0.2.1",
    "1:2::3.4.5.6/128",
]


@st.composite
def durations(draw, least, most):
    """Draw a time as a number or in sshd's format; bounds in seconds."""
    seconds = draw(st.integers(least, most))
    minutes = draw(st.integers(0, seconds // 60))
    written = "{}m{}{}".format(minutes, seconds - 60 * minutes, draw(st.sampled_from(["", "s", "S"])))
    return draw(st.sampled_from([seconds, written]))


def patterns():
    """Draw patterns of names, of all characters that are legal; but none that is refused, of a host."""
    drawn = st.from_regex(NAME, fullmatch=True)
    return st.sampled_from(PEOPLE) | drawn.filter(lambda name: not re.search(r".@[0-9.*?]*[.][0-9.*?]*$", name))


@st.composite
def networks(draw):
    """Draw addresses and networks, short and long, in either case; but none that is refused, IPv4 within IPv6."""
    address = draw(st.ip_addresses().filter(lambda one: not getattr(one, "ipv4_mapped", None)))
    prefix = draw(st.integers(0, address.max_prefixlen))
    network = ipaddress.ip_network("{}/{}".format(address, prefix), strict=False)
    written = draw(st.sampled_from([str(network), network.exploded, str(network).upper(), str(address)]))
    return draw(st.just(written) | st.sampled_from(PLACES))


@st.composite
def times(draw, idle):
    """Draw the times that a section and an entry have in common, or none; idle says whether one may be for idleness."""
    found = {}
    kind = draw(st.sampled_from(["none", "time", "pair"]))
    if kind == "time":
        found["unresponsive_timeout"] = draw(durations(15, 86400))
    if kind == "pair":
        found["client_alive_interval"] = draw(durations(5, 3600) | st.just(0))
        if draw(st.booleans()):
            found["client_alive_count_max"] = draw(st.integers(1, 100))
    if idle and draw(st.booleans()):
        seconds = draw(st.integers(0, 86400).filter(lambda drawn: not 0 < drawn < 60))
        found["idle_timeout"] = draw(durations(seconds, seconds)) if seconds else "none"
        if seconds and draw(st.booleans()):
            found["idle_command_timeout"] = draw(durations(seconds, 604800))
    return found


@st.composite
def entries(draw, idle=True):
    """Draw entries of match."""
    criterion = draw(st.sampled_from(["user", "group", "address"]))
    one = networks() if criterion == "address" else patterns()
    found = {criterion: draw(one | st.lists(one, min_size=1, max_size=4))}
    found.update(draw(times(idle)) or {"client_alive_interval": 60})
    return found


@st.composite
def sections(draw, idle=True, idle_in_match=True):
    """Draw sections that are accepted; idle_timeout only where it is said to be possible, without tmout anyway."""
    found = draw(times(True))
    if "idle_timeout" in found:
        fallback = draw(st.sampled_from([None, "none", "tmout"] if idle else ["tmout"]))
        if fallback:
            found["idle_fallback"] = fallback
    if draw(st.booleans()):
        found["tcp_keep_alive"] = draw(st.booleans())
    if draw(st.booleans()):
        found["match"] = draw(st.lists(entries(idle_in_match), max_size=4))
    return found


@st.composite
def names_near(draw, pattern):
    """Draw names that fit a pattern, or would but for a character."""
    text = st.text(LETTERS, max_size=3)
    name = "".join(
        draw(text) if char == "*" else draw(st.sampled_from(LETTERS)) if char == "?" else char for char in pattern
    )
    place = draw(st.integers(0, len(name)))
    other = [name, name.swapcase(), name[:place] + name[place + 1 :], name[:place] + draw(text) + name[place:]]
    return draw(st.sampled_from(other)) or "a"


@st.composite
def addresses_near(draw, network):
    """Draw addresses in a network, or just outside of it."""
    first, last = (int(ipaddress.ip_network(network)[end]) for end in (0, -1))
    address = type(ipaddress.ip_network(network)[0])
    number = draw(st.integers(first, last) | st.sampled_from([first, last, first - 1, last + 1]))
    return str(address(min(max(number, 0), 2 ** address(0).max_prefixlen - 1)))


@st.composite
def connections(draw, entry, policy):
    """Draw one who connects and whom an entry of a policy fits, or nearly; others may, too."""
    by = {
        criterion: [pattern for one in policy.match if one.criterion == criterion for pattern in one.patterns] or some
        for criterion, some in (("user", ["root", "a*"]), ("group", ["root", "a*"]), ("address", ["127.0.0.1"]))
    }
    by[entry.criterion] = entry.patterns
    user = draw(st.sampled_from(by["user"]).flatmap(names_near))
    groups = draw(st.lists(st.sampled_from(by["group"]).flatmap(names_near), min_size=1, max_size=2))
    return Connection(user, tuple(groups), draw(st.sampled_from(by["address"]).flatmap(addresses_near)))


def scalars():
    """Draw what stands alone in YAML."""
    # Python writes no number of more than 4300 digits, and YAML's hexadecimal ones may have more.
    huge = st.sampled_from([64, 5000]).map(lambda digits: 10**digits)
    text = st.text(st.characters(exclude_categories=()))
    numbers = st.integers() | huge | st.floats()
    return st.none() | st.booleans() | numbers | text | st.binary() | st.dates() | st.datetimes()


def anything(depth=3):
    """Draw whatever YAML can say."""
    # Not st.recursive, which draws different things from the same data within the draws of another one.
    if depth == 0:
        return scalars()
    keys = scalars() | st.sampled_from([*sorted(SECTION["properties"]), "user", "group", "address"])
    inner = anything(depth - 1)
    mappings = st.dictionaries(keys, inner, max_size=3)
    return scalars() | st.lists(inner, max_size=3) | mappings | st.sets(keys, max_size=3) | st.tuples(keys, inner)


@st.composite
def spoiled(draw):
    """Draw sections that would be accepted, but for what stands at one or two places."""
    section = draw(sections())
    for _ in range(draw(st.integers(1, 2))):
        place = section
        while True:
            steps = list(place) if isinstance(place, dict) else list(range(len(place)))
            number = draw(st.integers(0, len(steps)))
            if number == len(steps):
                break
            inside = place[steps[number]]
            if not isinstance(inside, (dict, list)) or draw(st.integers(0, 3)) == 0:
                break
            place = inside
        if isinstance(place, list):
            place[number : number + 1] = [draw(anything())]
        else:
            new = st.sampled_from(["user", "match", "unresponsive_timeout"]) | scalars()
            place[steps[number] if number < len(steps) else draw(new)] = draw(anything())
    return section


# What would be more than one line or one pattern in a file, if anybody let it in
PIECES = [
    "\n",
    "\r",
    "\x0b",
    "\x85",
    "\u2028",
    "\0",
    " ",
    "\t",
    '"',
    "'",
    "#",
    ",",
    "!",
    "=",
    "\\",
    "$(id)",
    "`id`",
    ";",
    "%h",
]
PIECES += ["PermitRootLogin yes", "Match all", "ChannelTimeout none", "\ud800", "none", "*", "60", "10.0.0.1"]


def criteria(section):
    """Return the entries of a section, each with the key that it goes by."""
    keys = ("user", "group", "address")
    return [(entry, key) for entry in section.get("match", ()) for key in keys if key in entry]


@st.composite
def injected(draw):
    """Draw sections that would be accepted, but for text that stands somewhere."""
    section = draw(sections())
    text = draw(st.lists(st.sampled_from(PIECES) | patterns(), max_size=4).map("".join))
    for entry, key in criteria(section):
        entry[key] = draw(st.sampled_from([entry[key], text, [text], ["root", text]]))
    if draw(st.integers(0, 4)) == 0:
        section[draw(st.sampled_from(["idle_timeout", "unresponsive_timeout", "idle_fallback"]))] = text
    return section
