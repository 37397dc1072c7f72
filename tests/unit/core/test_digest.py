"""Digest authentication against RFC vectors and between our own two sides."""

import pytest
from voicecore import sip
from voicecore.sip import digest

RFC7616 = (
    'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm={algorithm}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, '
    'cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, response="{response}", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_rfc_7616_vectors(algorithm: str, response: str) -> None:
    authorization = digest.parse_authorization(RFC7616.format(algorithm=algorithm, response=response))
    assert (authorization.nc, authorization.qop, authorization.username) == (1, "auth", "Mufasa")
    assert digest.verify(authorization, "GET", password="Circle of Life")
    assert not digest.verify(authorization, "GET", password="circle of life")
    stored = digest.ha1("Mufasa", "http-auth@example.org", "Circle of Life", algorithm)
    assert digest.verify(authorization, "GET", ha1=stored)


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("qop", [None, "auth"])
def test_both_sides_agree(algorithm: str, qop: str | None) -> None:
    text = digest.challenge("realm", "nonce", opaque="o", algorithm=algorithm, qop=qop, stale=True)
    asked = digest.parse_challenge(text)
    assert (asked.realm, asked.stale, asked.algorithm, asked.qop) == (
        "realm",
        True,
        algorithm,
        (qop,) if qop else (),
    )
    answer = digest.answer(text, "REGISTER", "sip:x", "u", password="p", nc=3)
    authorization = digest.parse_authorization(answer)
    assert authorization.opaque == "o" and authorization.nc == (3 if qop else None)
    assert digest.verify(authorization, "REGISTER", password="p")
    assert not digest.verify(authorization, "INVITE", password="p")


def test_refused() -> None:
    with pytest.raises(sip.ParseError) as caught:
        digest.parse_authorization("NoOneKnowsThisScheme opaque-data=here")
    assert (caught.value.rule, caught.value.status) == ("digest-scheme", 400)
    with pytest.raises(ValueError, match="algorithm"):
        digest.challenge("r", "n", algorithm="SHA-1")
    with pytest.raises(ValueError, match="exactly one"):
        digest.answer('Digest realm="r", nonce="n"', "X", "sip:x", "u")
    with pytest.raises(ValueError, match="one line"):
        digest.challenge("r\r\nX: y", "n")


def test_nonces_are_ours_fresh_and_used_once() -> None:
    keeper = digest.NonceKeeper(b"0123456789abcdef", window=300)
    nonce = keeper.create("r", 1_000_000.0)
    assert nonce != keeper.create("r", 1_000_000.0)
    assert [keeper.check(nonce, "r", nc, 1_000_001.0) for nc in (1, 1, 2, 5, 3, 3)] == [
        "good",
        "replayed",
        "good",
        "good",
        "good",
        "replayed",
    ]
    assert keeper.check(nonce, "other", 9, 1_000_001.0) == "foreign"
    assert keeper.check(nonce, "r", 9, 1_000_300.0) == "stale"
    assert digest.NonceKeeper(b"another secret 1").check(nonce, "r", 1, 1_000_001.0) == "foreign"
    with pytest.raises(ValueError, match="secret"):
        digest.NonceKeeper(b"short")
