"""What is kept where: guarded transactions on etcd. Everything a request writes at once is in one of them, so
there are no partial writes; an import is a row of them, each leaving the tenant whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from etcdserverpb import rpc_pb2 as pb
from voice.config.v1.config_service_pb2 import DnRegistrations
from voice.config.v1.registration_pb2 import Login
from voice.record.v1.config_pb2 import ConfigRecord

from mesh.config_objects import PHONE_TYPES
from mesh.errors import DomainError, Reason
from mesh.etcd import (
    Etcd,
    EtcdUnavailable,
    Guarded,
    TxnResult,
    absent,
    delete_op,
    exists,
    get_op,
    put_op,
    unchanged,
)
from mesh.watch import Watch
from services.config.integrity import Id, Plan, Stored
from services.config.keys import Keys
from services.config.schema import in_import_order, label
from services.config.together import Together

MAX_OPS = 120
"""Operations of a transaction: below etcd's 128, the counter's is added."""
MAX_BYTES = 1_200_000
"""Bytes of a transaction: below etcd's 1.5 MiB a request."""


class Moved(Exception):
    """A guard did not hold: somebody wrote in between. Read again (up to `revision`) and decide again."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"written in between, at revision {revision}")
        self.revision = revision


@dataclass(slots=True)
class Step:
    """What one object adds to a transaction."""

    must_be_absent: dict[str, DomainError] = field(default_factory=dict)
    """Key -> the failure when it is there."""
    ops: list[pb.RequestOp] = field(default_factory=list)

    @property
    def cost(self) -> int:
        return max(len(self.ops), len(self.must_be_absent))

    @property
    def bytes(self) -> int:
        return sum(op.ByteSize() for op in self.ops)


def away() -> DomainError:
    """etcd does not answer."""
    return DomainError(
        Reason.REASON_DEPENDENCY_UNAVAILABLE, "the configuration store is not available", dependency="etcd"
    )


class Store:
    """Writes and linearizable reads. All raise DomainError DEPENDENCY_UNAVAILABLE when etcd is away."""

    def __init__(self, etcd: Etcd, keys: Keys) -> None:
        self._etcd = etcd
        self.keys = keys
        self._together = Together(self._txns)

    async def counter_revision(self, tenant: str) -> int:
        """Revision of the tenant's objects now; 0 when there never were any."""
        try:
            kv = await self._etcd.get(self.keys.counter(tenant))
        except EtcdUnavailable:
            raise away() from None
        return kv.mod_revision if kv is not None else 0

    async def revision(self) -> int:
        """etcd's revision now."""
        return (await self._txn([], [], [])).revision

    async def announce(self, node: str) -> int:
        """Puts the node's sign of life; gives its revision."""
        return (await self._txn([], [put_op(self.keys.node(node), b"")], [])).revision

    def history(self, after: int) -> Watch:
        """Changes after a revision, from etcd's own history; a snapshot when it does not go back that far. To
        be closed."""
        return self._etcd.watch(self.keys.prefix, after + 1)

    async def claim_secret_key(self, primary: str) -> str:
        """The id of the key that DN passwords were sealed with first: `primary` if nobody was before."""
        key = self.keys.secret_key_id()
        result = await self._txn([absent(key)], [put_op(key, primary.encode())], [get_op(key)])
        return primary if result.succeeded else result.reads[0][0].value.decode()

    # -- objects ---------------------------------------------------------------------------------------------

    async def commit(
        self, tenant: str, plan: Plan, counter: int, before: Mapping[Id, Stored], pause: float
    ) -> int:
        """Writes a plan that was made at the counter revision `counter` (0: no counter yet); gives the last
        revision. `before`: the objects replaced. Raises Moved, and DomainError when a domain or login is in the
        way. More than one transaction's worth is written in several, `pause` seconds apart."""
        messages = [stored.message for stored in plan.puts.values()]
        ids = list(plan.puts)
        order = [ids[at] for at in in_import_order(messages)]
        puts = (self._put_step(tenant, id, plan.puts[id], before.get(id)) for id in order)
        deletes = (self._delete_step(tenant, id, stored) for id, stored in plan.deletes.items())
        written = False
        for batch in _batches(chain(puts, deletes)):
            if written and pause:
                await asyncio.sleep(pause)
            counter = await self._commit_batch(tenant, batch, counter, plan.next_dbid)
            written = True
        return counter

    async def _commit_batch(self, tenant: str, batch: Sequence[Step], counter: int, next_dbid: int) -> int:
        counter_key = self.keys.counter(tenant)
        guards = {key: error for step in batch for key, error in step.must_be_absent.items()}
        ops = [op for step in batch for op in step.ops]
        result = await self._txn(
            [unchanged(counter_key, counter), *(absent(key) for key in guards)],
            [put_op(counter_key, str(next_dbid).encode()), *ops],
            [get_op(counter_key), *(get_op(key) for key in guards)],
        )
        if result.succeeded:
            return result.revision
        found, *blockers = result.reads
        now = found[0].mod_revision if found else 0
        if now == counter:
            for error, there in zip(guards.values(), blockers, strict=True):
                if there:
                    raise error
        raise Moved(now)

    def _put_step(self, tenant: str, id: Id, stored: Stored, before: Stored | None) -> Step:
        record = ConfigRecord(object=stored.message, request_id=stored.request_id)
        step = Step(ops=[put_op(self.keys.object(tenant, *id), record.SerializeToString())])
        if id[0] == "tenant":
            self._domains(step, tenant, stored, before)
        return step

    def _domains(self, step: Step, tenant: str, stored: Stored | None, before: Stored | None) -> None:
        new = _domains_of(stored)
        old = _domains_of(before)
        for at, domain in enumerate(new):
            if domain not in old:
                error = DomainError(
                    Reason.REASON_ALREADY_EXISTS, f'domain "{domain}" belongs to another tenant'
                )
                error.violations = ((f"object.tenant.domains[{at}]", "belongs to another tenant"),)
                step.must_be_absent[self.keys.domain(domain)] = error
                step.ops.append(put_op(self.keys.domain(domain), tenant.encode()))
        step.ops += [delete_op(self.keys.domain(domain)) for domain in old if domain not in new]

    def _delete_step(self, tenant: str, id: Id, stored: Stored) -> Step:
        message = stored.message
        step = Step(ops=[delete_op(self.keys.object(tenant, *id))])
        in_use = DomainError(
            Reason.REASON_OBJECT_IN_USE, f"object: an agent is logged in on {label(message)}"
        )
        match id[0]:
            case "tenant":
                self._domains(step, tenant, None, stored)
            case "dn" if message.dn.type in PHONE_TYPES:
                step.must_be_absent[self.keys.dn_login(tenant, message.dn.number)] = in_use
                step.ops.append(delete_op(self.keys.registrations(tenant, message.dn.number)))
            case "agent_login":
                step.must_be_absent[self.keys.login(tenant, message.agent_login.code)] = in_use
            case "person":
                for code in message.person.agent_logins:
                    step.must_be_absent[self.keys.login(tenant, code)] = in_use
        return step

    # -- devices ---------------------------------------------------------------------------------------------

    async def put_registrations(self, tenant: str, dn_object: str, wanted: DnRegistrations) -> int:
        """Replaces the bindings of a DN, guarded by their revision and by the DN's existence; gives the new
        revision, 0 when there are none now. Raises REVISION_CONFLICT, UNKNOWN_DN."""
        key = self.keys.registrations(tenant, wanted.dn)
        kept = DnRegistrations(dn=wanted.dn, registrations=wanted.registrations)
        op = put_op(key, kept.SerializeToString()) if wanted.registrations else delete_op(key)
        guards = (exists(dn_object), unchanged(key, wanted.revision))
        result = await self._together.write(key, Guarded(guards, (op,), (get_op(dn_object), get_op(key))))
        if result.succeeded:
            return result.revision if wanted.registrations else 0
        dn, present = result.reads
        if not dn:
            raise DomainError(Reason.REASON_UNKNOWN_DN, f"DN {wanted.dn} is not configured")
        actual = present[0].mod_revision if present else 0
        raise DomainError(
            Reason.REASON_REVISION_CONFLICT,
            f"the bindings of DN {wanted.dn} have changed",
            expected=wanted.revision,
            actual=actual,
        )

    async def put_login(self, tenant: str, login: Login, guards: Mapping[str, int]) -> int:
        """Records a login under guards (key -> revision it must have, 0 absent). Raises Moved."""
        ops = [
            put_op(self.keys.login(tenant, login.agent_id), login.SerializeToString()),
            put_op(self.keys.dn_login(tenant, login.dn), login.agent_id.encode()),
        ]
        return await self._guarded(guards, ops)

    async def delete_login(self, tenant: str, login: Login, revision: int) -> int:
        """Removes a login that is at `revision`. Raises Moved."""
        key = self.keys.login(tenant, login.agent_id)
        ops = [delete_op(key), delete_op(self.keys.dn_login(tenant, login.dn))]
        return await self._guarded({key: revision}, ops)

    async def verify(self, guards: Mapping[str, int]) -> None:
        """Returns when every key is at the revision given: what was decided from the copy is so. Raises
        Moved."""
        await self._guarded(guards, [])

    async def _guarded(self, guards: Mapping[str, int], ops: Sequence[pb.RequestOp]) -> int:
        compare = [unchanged(key, revision) for key, revision in guards.items()]
        result = await self._txn(compare, ops, [get_op(key) for key in guards])
        if not result.succeeded:
            raise Moved(result.revision)
        return result.revision

    async def _txn(
        self, compare: Sequence[pb.Compare], success: Sequence[pb.RequestOp], failure: Sequence[pb.RequestOp]
    ) -> TxnResult:
        try:
            return await self._etcd.txn(compare, success, failure)
        except EtcdUnavailable:
            raise away() from None

    async def _txns(self, each: Sequence[Guarded]) -> list[TxnResult]:
        try:
            return await self._etcd.txns(each)
        except EtcdUnavailable:
            raise away() from None

    @property
    def registrations_waiting(self) -> int:
        """Registrations that wait for the transaction under way."""
        return self._together.depth


def _domains_of(stored: Stored | None) -> list[str]:
    return [domain.lower() for domain in stored.message.tenant.domains] if stored is not None else []


def _batches(steps: Iterable[Step]) -> Iterator[list[Step]]:
    batch = list[Step]()
    cost = size = 0
    for step in steps:
        bytes = step.bytes
        if batch and (cost + step.cost > MAX_OPS or size + bytes > MAX_BYTES):
            yield batch
            batch, cost, size = [], 0, 0
        batch.append(step)
        cost, size = cost + step.cost, size + bytes
    if batch:
        yield batch
