"""Which addresses are a host's to everybody."""

import pytest

from pymon.host_address import is_host_address


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1",
        "192.0.2.1",
        "169.253.255.255",
        "223.255.255.255",
        "2001:db8::1",
        "fd00::1",
        "64:ff9b::a00:1",
        "2002:a00:1::1",
        "fec0::1",
        "1::",
        "0:1::1",
    ],
)
def test_is_one(text: str) -> None:
    assert is_host_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.0.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::10.0.0.1",
        "fe80::1",
        "febf::1",
        "ff02::1",
        "ff0e::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::a9fe:a9fe",
        "fe80::1%eth0",
        "010.0.0.1",
        "localhost",
        "",
        "\0",
        "é",
        "::ffff:169.254.169.254",
    ],
)
def test_is_none(text: str) -> None:
    assert not is_host_address(text)
