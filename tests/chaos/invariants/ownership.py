"""One owner a slot at any time. etcd's history says who owned what from which revision on; streams say who acted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from mesh.identifiers import agent_slot, sip_slot_of_call_uuid
from tests.chaos.facts import Claim, Facts, StreamEvent, Violation

ONE_OWNER = "one owner a slot"
PUBLISHERS = {"thread": "sip_cluster", "agent": "agent_state"}
"""Family of a stream -> the service whose slot owner publishes it."""


def claims(facts: Facts) -> Iterator[Violation]:
    """The history of each slot: a claim is taken when it is free, or put over the present owner's by a hand-over."""
    history: dict[tuple[str, str], list[Claim]] = defaultdict(list)
    for claim in facts.claims:
        history[claim.service, claim.slot].append(claim)
    for (service, slot), changes in history.items():
        subject = f"{service}/{slot}"
        ordered = sorted(changes, key=lambda claim: claim.revision)
        if [claim.revision for claim in changes] != [claim.revision for claim in ordered]:
            yield Violation(ONE_OWNER, subject, "revisions went back")
        owner = ""
        for claim in ordered:
            taken_anew = claim.owner and claim.created == claim.revision
            if taken_anew and owner:
                yield Violation(
                    ONE_OWNER, subject, f"{claim.owner} took it at {claim.revision} while {owner} had it"
                )
            if claim.owner and claim.owner == owner:
                yield Violation(
                    ONE_OWNER,
                    subject,
                    f"{owner} claimed it again at {claim.revision}: a new epoch for nothing",
                )
            owner = claim.owner


def publishers(facts: Facts) -> Iterator[Violation]:
    """Every event is under the epoch of a claim on the stream's slot, and is told by the claimant, or by one who had
    the slot before (an heir publishes what its predecessor left, in the predecessor's words)."""
    held: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for claim in facts.claims:
        if claim.owner:
            held[claim.service, claim.slot][claim.revision] = claim.owner
    told: set[tuple[str, int, str]] = set()
    for event in facts.events if held else ():
        home = _home(event)
        owners = held.get(home, {})
        allowed = {owner for revision, owner in owners.items() if revision <= event.epoch}
        key = (event.stream, event.epoch, event.node)
        if (event.epoch in owners and event.node in allowed) or key in told:
            continue
        told.add(key)
        says = (
            f"the claim is {owners[event.epoch]}'s"
            if event.epoch in owners
            else "nobody claimed the slot under it"
        )
        story = f"{event.node} published {event.seq} ({event.name}) under epoch {event.epoch} of {'/'.join(home)}: {says}"
        yield Violation(ONE_OWNER, event.stream, story)


def owners_at_the_end(facts: Facts) -> Iterator[Violation]:
    """At rest each slot has one node that says it owns it, under the epoch that etcd has."""
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for slot in facts.slots:
        owners[slot.service, slot.slot].append(f"{slot.node} under {slot.epoch}")
    for (service, name), nodes in owners.items():
        if len(nodes) > 1:
            yield Violation(ONE_OWNER, f"{service}/{name}", f"at the end owned by {' and '.join(nodes)}")
    for service, count in facts.slot_counts.items():
        found = sum(1 for key in owners if key[0] == service)
        if found != count:
            yield Violation(ONE_OWNER, service, f"at the end {found} of {count} slots have an owner")


def everybody_back(facts: Facts) -> Iterator[Violation]:
    """Whoever was killed, frozen or cut off serves again without anybody's help."""
    for node, why in facts.missing.items():
        yield Violation("everybody serves again", node, why)


def _home(event: StreamEvent) -> tuple[str, str]:
    service = PUBLISHERS[event.family]
    if event.family == "thread":
        return service, str(sip_slot_of_call_uuid(event.stream))
    tenant, _, subject = event.stream.partition(":")
    return service, str(agent_slot(tenant, subject if subject.startswith("dn:") else f"agent:{subject}"))
