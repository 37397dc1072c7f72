"""What a new INVITE must have to become a call, and what it says of where it comes from. Pure."""

from __future__ import annotations

from voice.dial_plan.v1.dial_plan_service_pb2 import Source
from voicecore.sip import ParseError, Request, Via, slot_of_tag

from services.sip_cluster.next_hop import Address, host_port

MAX_NUMBER = 255
"""Characters of a dialled or calling number (voice.dial_plan.v1.ResolveRequest)."""


def source_of(request: Request, peer: Address, *, through_proxy: bool) -> Source:
    """Whence the INVITE came to the proxy: the Via below the proxy's own; without a proxy, the sender."""
    uri, caller = request.uri, request.from_.uri
    source = Source(domain=uri.host, from_domain=caller.host, from_user=(caller.user or "")[:MAX_NUMBER])
    source.address = host_port(peer)
    vias = request.get_values("Via") if through_proxy else []
    if len(vias) > 1:
        try:
            via = Via.parse(vias[1])
        except ParseError:
            return source
        source.address = host_port((via.received or via.host.strip("[]"), via.rport or via.port or 5060))
    return source


def slot_in_via(request: Request) -> int | None:
    """The slot of the call that an INVITE without To tag began with another node: a proxy that sends it again says so in
    its Via."""
    via = request.via
    if via is None or request.method != "INVITE":
        return None
    text = next((value for name, value in via.params if name == "vs"), None)
    return slot_of_tag(f"v1{text}-") if text else None


def problem(request: Request) -> int:
    """Status with which a new INVITE is refused for its form; 0 when it is good."""
    try:
        uri, contact, caller = request.uri, request.contact, request.from_
    except ParseError as error:
        return error.status
    if uri.scheme not in ("sip", "sips", "tel"):
        return 416
    if not uri.user or len(uri.user) > MAX_NUMBER:
        return 484
    if contact is None or caller.tag is None:
        return 400
    if request.get("Require"):
        return 420
    if (request.max_forwards if request.max_forwards is not None else 70) < 1:
        return 483
    return 0
