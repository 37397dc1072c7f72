"""SDP: enough for pass-through, hold detection and simple answers."""

from voicecore._native import SdpMedia as Media
from voicecore._native import SdpOrigin as Origin
from voicecore._native import SdpSession as Session
from voicecore._native import sdp_direction as direction
from voicecore._native import sdp_offer as offer
from voicecore._native import sdp_parse as parse

__all__ = ["Media", "Origin", "Session", "direction", "offer", "parse"]
