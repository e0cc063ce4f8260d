import pytest

from pymon.peer import plain_address, source_of


@pytest.mark.parametrize(
    ("address", "plain", "source"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6", "20010db800010002::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::", "20010db800010002::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::", "20010db800010003::/64"),
        ("fe80::1%eth0", "fe80::1%eth0", "fe80000000000000::/64"),
        ("::1", "::1", "0000000000000000::/64"),
    ],
)
def test_sources(address: str, plain: str, source: str) -> None:
    assert plain_address(address) == plain
    assert source_of(address) == source


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("::1", "::2"),
    ],
)
def test_addresses_that_are_limited_together(address, same):
    assert source_of(address) == source_of(same)
