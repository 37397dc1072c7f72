"""REGISTER over real SIP: bindings in Config, refresh, several devices, wildcard, expiry, and the events that follow."""

from __future__ import annotations

import pytest
from voice.config.v1.config_service_pb2 import GetRegistrationsRequest
from voice.config.v1.config_service_pb2_grpc import DeviceServiceStub
from voice.dial_plan.v1.dial_plan_service_pb2 import ResolveRequest
from voice.dial_plan.v1.dial_plan_service_pb2_grpc import DialPlanServiceStub

from tests.e2e.platform import Platform, events_of, password
from tests.integration.redis_queue.processes import eventually


@pytest.mark.feature("SP-03", "RG-01", "RG-02", "RG-03", "CF-02", "CF-08", "DP-04")
async def test_a_device_registers_refreshes_and_leaves(platform: Platform) -> None:
    first, second = platform.phone("1905", host=51), platform.phone("1905", host=52)
    async with platform.edge() as channel, events_of(platform, channel, dns=["1905"]) as events:
        devices = DeviceServiceStub(channel)
        metadata = platform.bearer("t1")
        asked = GetRegistrationsRequest(tenant="t1", dn="1905")
        answer = await first.register(password("1905", "t1"), expires=3600)
        assert (answer.status, len(answer.contacts)) == (200, 1)
        assert 3230 <= int(answer.contacts[0].param("expires") or 0) <= 3600
        await events.first("DN_BACK_IN_SERVICE", this_dn="1905")
        stored = (await devices.GetRegistrations(asked, metadata=metadata, timeout=5)).registrations
        assert [r.contact for r in stored.registrations] == [first.contact]
        answer = await second.register(password("1905", "t1"))
        assert len(answer.contacts) == 2
        resolve = ResolveRequest(tenant="t1", destination="1905")
        dial_plan = DialPlanServiceStub(channel)

        async def both() -> bool:  # Dial Plan hears of a registration from Config, moments later
            contacts = (await dial_plan.Resolve(resolve, metadata=metadata, timeout=5)).contacts
            return {contact.uri for contact in contacts} == {first.contact, second.contact}

        assert await eventually(both, 5.0)
        assert (await first.register(password("1905", "t1"), expires=0)).status == 200
        assert "DN_OUT_OF_SERVICE" not in events.names()
        await second.unregister_all(password("1905", "t1"))
        await events.first("DN_OUT_OF_SERVICE", this_dn="1905")
        stored = (await devices.GetRegistrations(asked, metadata=metadata, timeout=5)).registrations
        assert list(stored.registrations) == []
    first.close()
    second.close()


async def test_wrong_credentials_bind_nothing(platform: Platform) -> None:
    phone = platform.phone("1905", host=53)
    assert (await phone.register("wrong")).status == 403
    phone.close()


@pytest.mark.feature("SP-14")
async def test_the_password_of_another_tenants_equal_number_does_not_fit(platform: Platform) -> None:
    phone = platform.phone("1905", "t2", host=54)
    assert (await phone.register(password("1905", "t1"))).status == 403
    assert (await phone.register(password("1905", "t2"))).status == 200
    await phone.register(password("1905", "t2"), expires=0)
    phone.close()
