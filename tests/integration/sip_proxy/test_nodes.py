"""Which SIP node gets what: silent, full, dead and vanished nodes behind a real proxy."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.integration.sip_proxy.conftest import INTERVAL_S, World

SLACK_S = 0.5
"""What a busy machine may add to a figure, seconds."""
A, B = "sip_cluster-0", "sip_cluster-1"


async def callers(world: World, seconds: float, each_s: float = 0.02) -> None:
    """New dialogs at a steady rate."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        world.caller.send("INVITE")
        await asyncio.sleep(each_s)


@pytest.mark.feature("SP-09")
async def test_a_node_that_stops_answering_options_gets_no_new_dialog_within_two_intervals(
    world: World,
) -> None:
    node = world.nodes[A]
    await callers(world, 1.0)
    assert node.count("INVITE") > 5
    assert world.nodes[B].count("INVITE") > 5
    load = asyncio.create_task(callers(world, 6 * INTERVAL_S + 2))
    node.deaf.add("OPTIONS")  # it still takes calls: nothing but OPTIONS tells
    stopped = time.monotonic()
    took = await world.until_metric("active_sip_nodes", 1)
    assert took <= 2 * INTERVAL_S + SLACK_S
    await load
    late = [
        one for one in node.seen if one.method == "INVITE" and one.at > stopped + 2 * INTERVAL_S + SLACK_S
    ]
    assert late == []
    assert world.nodes[B].count("INVITE", stopped) > 50
    assert world.metric("silent_sip_nodes") == 1
    node.deaf.clear()
    await world.until_metric("active_sip_nodes", 2)
    since = time.monotonic()
    await callers(world, 1.0)
    assert node.count("INVITE", since) > 5, "one answer brings it back"
    assert set(world.caller.statuses()) == {486}


async def test_when_no_node_answers_options_calls_are_sent_all_the_same(world: World) -> None:
    for node in world.nodes.values():
        node.deaf.add("OPTIONS")
    await world.until_metric("silent_sip_nodes", 2)
    assert world.metric("active_sip_nodes") == 2
    await callers(world, 0.5)
    await world.until(lambda: len(world.caller.answers) > 10)
    assert set(world.caller.statuses()) == {486}


@pytest.mark.feature("SP-11")
async def test_a_node_without_capacity_gets_no_new_dialogs(world: World) -> None:
    node = world.nodes[A]
    await world.announce(A, capacity=0)
    await world.until_metric("active_sip_nodes", 1)
    since = time.monotonic()
    await callers(world, 1.0)
    assert node.count("INVITE", since) == 0
    assert world.nodes[B].count("INVITE", since) > 20
    await world.announce(A, load=100)  # full
    await callers(world, 0.5)
    assert node.count("INVITE", since) == 0
    await world.announce(A, load=10)
    await world.until_metric("active_sip_nodes", 2)
    await callers(world, 1.0)
    assert node.count("INVITE", since) > 5
    assert set(world.caller.statuses()) == {486}


@pytest.mark.feature("SP-08")
async def test_a_request_in_a_dialog_goes_to_the_heir_of_a_dead_node(world: World) -> None:
    """BYE while the slot is still the dead node's: it waits for the heir, and is sent again under the same branch."""
    await world.claim(4, A)
    await world.claim(5, B)
    probe = world.caller.send("BYE", to_tag="v1004-zero")
    await world.until(
        lambda: probe in world.caller.answers
    )  # perhaps late: the proxy has to hear of the claim first
    since, reselected = time.monotonic(), world.metric("sip_reselected")
    first = world.caller.send("BYE", to_tag="v1004-abc")
    await world.until(lambda: first in world.caller.answers)
    assert (world.nodes[A].count("BYE", since), world.nodes[B].count("BYE", since)) == (1, 0)
    assert world.metric("sip_reselected") == reselected
    world.nodes[A].close()  # its port is closed: what comes meets ICMP
    second = world.caller.send("BYE", to_tag="v1004-def")
    await asyncio.sleep(0.3)
    assert second not in world.caller.answers, "no failure while the slot may move"
    await world.vanish(A)
    await world.claim(4, B)
    await world.until(lambda: second in world.caller.answers)
    assert world.caller.answers[second][0] == 200
    [bye] = [one for one in world.nodes[B].seen if one.method == "BYE" and one.at > since]
    assert bye.header("Call-ID") == second
    assert world.metric("sip_reselected") == reselected + 1
    third = world.caller.send("BYE", to_tag="v1004-ghi")
    await world.until(lambda: third in world.caller.answers)
    assert world.metric("sip_reselected") == reselected + 1, "the slot has its new owner"


async def test_a_new_dialog_for_a_dead_node_goes_to_the_other_at_once(world: World) -> None:
    world.nodes[A].close()
    before = time.monotonic()
    sent = [world.caller.send("INVITE") for _ in range(20)]
    await world.until(lambda: len(world.caller.answers) == 20)
    assert {world.caller.answers[call][0] for call in sent} == {486}
    assert max(at for _, at in world.caller.answers.values()) - before < 1.5
    assert world.metric("sip_reselected") > 3


async def test_when_every_record_vanishes_calls_go_on_to_nodes_that_answer(world: World) -> None:
    """What an outage of etcd ends with: all leases are over, and each node writes its record again."""
    load = asyncio.create_task(callers(world, 3.0))
    for name in world.nodes:
        await world.vanish(name)
    await asyncio.sleep(1.5)
    assert world.metric("active_sip_nodes") == 2
    for name in world.nodes:
        await world.announce(name)
    await load
    await world.until(lambda: len(world.caller.answers) > 50)
    assert set(world.caller.statuses()) == {486}
    assert world.metric("sip_no_node") == 0
    world.nodes[A].close()  # and one that is dead goes
    await world.vanish(A)
    await world.until_metric("active_sip_nodes", 1, 3 * INTERVAL_S + 2)
