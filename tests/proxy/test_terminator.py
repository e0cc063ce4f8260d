"""The headers of a TLS terminator."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.proxy.authn import AuthError
from pymon.proxy.terminator import certificate_of, source_address
from tests.proxy.certs import SSHPK, der_of

FILE = SSHPK / "cmon-rsa.pem"
DER = der_of(FILE)
BASE64 = base64.b64encode(DER).decode()
PEM = Path(FILE).read_text()


@pytest.mark.parametrize(
    "text",
    [
        f":{BASE64}:",
        f"  :{BASE64}: ",
        BASE64,
        quote(PEM),
        quote(PEM, safe=""),
        quote(PEM, safe="/ =+"),
        quote(PEM.replace("\n", "\r\n")),
        quote(f"{PEM}\n\n"),
    ],
)
def test_the_certificate_in_each_form(text):
    assert certificate_of([text]) == DER


@pytest.mark.parametrize("values", [[], [""], ["  "]])
def test_no_certificate(values):
    assert certificate_of(values) is None


@pytest.mark.parametrize(
    "values",
    [
        ["::"],
        [":"],
        [f":{BASE64}"],
        [f"{BASE64}:"],
        [f":{BASE64}:;a=1"],
        [f"{BASE64} {BASE64}"],
        [BASE64[:-1]],
        ["(null)"],
        ["\u00e4\u00f6"],
        [quote(PEM + PEM)],
        [quote(PEM)[:-10]],
        [quote(PEM.replace("CERTIFICATE", "PRIVATE KEY"))],
        ["-----BEGIN%20CERTIFICATE-----%0A-----END%20CERTIFICATE-----"],
        [BASE64, BASE64],
        [BASE64, ""],
    ],
)
def test_anything_else_is_malformed(values):
    with pytest.raises(AuthError, match="malformed"):
        certificate_of(values)


@given(st.lists(st.text(max_size=200), max_size=2))
def test_any_text_is_a_certificate_none_or_malformed(values):
    try:
        certificate_of(values)
    except AuthError as error:
        assert error.reason == "malformed"  # noqa: PT017


@pytest.mark.parametrize(
    ("values", "address"),
    [
        ([], None),
        ([""], None),
        (["192.0.2.1"], "192.0.2.1"),
        (["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
        (["203.0.113.9,192.0.2.1 "], "192.0.2.1"),
        (["203.0.113.9", "192.0.2.1"], "192.0.2.1"),
        (["garbage, 2001:DB8:0::1"], "2001:db8::1"),
    ],
)
def test_the_source_address_is_the_last(values, address):
    assert source_address(values) == address


@pytest.mark.parametrize("text", ["unknown", "192.0.2.1:80", "192.0.2.1, x", "1.2.3", "::1%eth0/x", "\u0661.1.1.1"])
def test_a_last_element_that_is_no_address_is_malformed(text):
    with pytest.raises(AuthError, match="malformed"):
        source_address([text])
