"""SDP: exact round trip, holds, answers."""

import pytest
from voicecore import sip
from voicecore.sip import sdp

OFFER = (
    b"v=0\r\no=alice 1 5 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 96 8 0 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n"
    b"m=video 4002 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n"
)


def test_reading() -> None:
    session = sdp.parse(OFFER)
    assert session.to_bytes() == OFFER
    assert (session.origin.username, session.origin.version, session.address) == ("alice", 5, "10.0.0.1")
    audio, video = session.media
    assert (audio.kind, audio.port, audio.formats) == ("audio", 4000, ("96", "8", "0", "101"))
    assert (audio.direction, audio.held, video.direction, video.held) == ("sendonly", True, "sendrecv", False)
    assert (audio.rtpmap("8"), audio.payload("TELEPHONE-EVENT/8000"), audio.payload("x/1")) == (
        "PCMA/8000",
        "101",
        None,
    )
    assert ("sendonly", None) in audio.attributes and ("rtpmap", "96 opus/48000/2") in audio.attributes


def test_offer_and_answer() -> None:
    offered = sdp.offer("10.0.0.1", 4000, session_id=7)
    answered = sdp.parse(offered.to_bytes()).answer("10.0.0.2", [5000])
    assert answered.media[0].formats == offered.media[0].formats
    assert (answered.media[0].port, answered.address) == (5000, "10.0.0.2")
    held = offered.with_direction("sendonly")
    assert held.origin.version == 2
    assert sdp.direction(held.to_bytes()) == "sendonly"
    assert held.answer("10.0.0.2", [5000]).media[0].direction == "recvonly"
    partial = sdp.parse(OFFER).answer("10.0.0.2", [5000], encodings=["PCMU/8000"])
    assert [(media.port, media.formats) for media in partial.media] == [(5000, ("0",)), (0, ("97",))]
    with pytest.raises(ValueError, match="common"):
        sdp.parse(OFFER).answer("10.0.0.2", [5000], encodings=["G729/8000"])


def test_direction_of_anything() -> None:
    assert sdp.direction(OFFER) == "sendonly"
    assert sdp.direction(b"hello") is None
    assert sdp.direction(OFFER.replace(b"m=audio 4000", b"m=audio 0")) is None
    assert sdp.direction(sdp.offer("10.0.0.1", 4000).with_address("0.0.0.0").to_bytes()) == "sendonly"


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"", "sdp-version"),
        (b"v=0\r\n", "sdp-origin"),
        (OFFER + b"junk\r\n", "sdp-line"),
        (OFFER.replace(b"4000", b"x"), "sdp-media"),
    ],
)
def test_refused(body: bytes, rule: str) -> None:
    with pytest.raises(sip.ParseError) as caught:
        sdp.parse(body)
    assert caught.value.rule == rule
