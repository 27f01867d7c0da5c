import pytest
from ssh_keepalive.explanation import surprises
from ssh_keepalive.openssh import express
from ssh_keepalive.policy import Policy


class WithIdleTimeout:
    """A policy with a key that Policy does not have yet."""

    def __init__(self, idle_timeout, **settings):
        self.idle_timeout = idle_timeout
        self.policy = Policy(**settings)

    def __getattr__(self, name):
        return getattr(self.policy, name)


PAIR = (
    "60 x 3 reads like 180 s, but a dead client is dropped after 240 s, on OpenSSH 9.2 to 9.4 after 480 s: "
    "unresponsive_timeout means the same everywhere"
)
NO_PROBES = "a client that stopped answering stays until it counts as idle: add unresponsive_timeout, too"
SHORT = "below 10m: a command that prints nothing for so long, a backup or an Ansible task, counts as idle"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(unresponsive_timeout=180), []),
        (Policy(enabled=False), []),
        (Policy(client_alive_interval=0, client_alive_count_max=3), []),
        (Policy(client_alive_interval=60, client_alive_count_max=3), [("client_alive_interval", PAIR)]),
        (WithIdleTimeout(900, unresponsive_timeout=180), []),
        (WithIdleTimeout(600, unresponsive_timeout=180), []),
        (WithIdleTimeout(599, unresponsive_timeout=180), [("idle_timeout", SHORT)]),
        (WithIdleTimeout(900), [("idle_timeout", NO_PROBES)]),
        (WithIdleTimeout(900, client_alive_interval=0, client_alive_count_max=3), [("idle_timeout", NO_PROBES)]),
        (WithIdleTimeout(60), [("idle_timeout", NO_PROBES), ("idle_timeout", SHORT)]),
    ],
)
def test_what_surprises(policy, expected):
    assert surprises(policy) == [(("ssh_keepalive", key), message) for key, message in expected]


def test_the_versions_in_the_message_are_those_that_double():
    policy = Policy(client_alive_interval=60, client_alive_count_max=3)
    after = {version: express(policy, version).dropped_after for version in [(9, 1), (9, 2), (9, 4), (9, 5), (10, 6)]}
    assert after == {(9, 1): 240, (9, 2): 480, (9, 4): 480, (9, 5): 240, (10, 6): 240}
