"""Tenants from files: what a folder of YAML says, as objects to import.

    python -m services.config.load demo/tenants --target unix:run/sockets/config-0.sock

A file is one tenant: a mapping with `tenant` and lists named after kinds in the plural (`switches`, `dns`,
`persons` …). Fields are those of object.proto; three shorthands keep files short:

    options: {TServer: {no-answer-timeout: 12}}      a mapping instead of sections
    skills: {English: 8, Loans: 3}                   of a person: a mapping instead of a list
    {number: "10[01-20]"}                            one object for each number of a range; "${number}" in its
                                                     other fields is that number, "${n}" its place from 1 on

`${net}` is replaced by the second octet of the mesh's loopback addresses.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import yaml
from google.protobuf.json_format import ParseDict, ParseError
from voice.config.v1.config_service_pb2 import ImportObjectsRequest, ImportObjectsResponse
from voice.config.v1.config_service_pb2_grpc import ConfigServiceStub
from voice.config.v1.object_pb2 import ConfigObject

from mesh.metadata import PEER_KEY
from services.config.schema import IMPORT_ORDER

PLURALS: Mapping[str, str] = {
    "switch": "switches",
    **{kind: f"{kind}s" for kind in IMPORT_ORDER if kind not in ("switch", "tenant")},
}
_RANGE = re.compile(r"(.*)\[(\d+)-(\d+)\]")
_RANGED = {"dn": "number", "agent_login": "code", "person": "user_name", "place": "name"}
PART = 500
PART_BYTES = 1 << 20
OPERATOR = "spiffe://voicemesh.local/ns/voice/sa/operator"
"""Whose call this is when it goes to Config's own socket, where no sidecar says so."""


class FileError(Exception):
    """The file is not what it should be; the text names file and place."""


def read_folder(folder: Path, variables: Mapping[str, str]) -> dict[str, list[ConfigObject]]:
    """Tenant id -> objects of every *.yaml file. Raises FileError, OSError."""
    found = dict[str, list[ConfigObject]]()
    for file in sorted(folder.glob("*.yaml")):
        tenant, objects = read_file(file, variables)
        if tenant in found:
            raise FileError(f"{file.name}: tenant {tenant} is in another file too")
        found[tenant] = objects
    if not found:
        raise FileError(f"{folder}: no *.yaml file in it")
    return found


def read_file(file: Path, variables: Mapping[str, str]) -> tuple[str, list[ConfigObject]]:
    """(tenant id, objects) of one file. Raises FileError, OSError."""
    text = file.read_text()
    for name, value in variables.items():
        text = text.replace(f"${{{name}}}", value)
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FileError(f"{file.name}: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("tenant"), dict):
        raise FileError(f"{file.name}: must be a mapping with a tenant")
    unknown = set(content) - {"tenant", *PLURALS.values()}
    if unknown:
        raise FileError(f"{file.name}: unknown: {', '.join(sorted(map(str, unknown)))}")
    objects = [_object(file.name, "tenant", content["tenant"])]
    for kind, plural in PLURALS.items():
        for at, item in enumerate(content.get(plural) or ()):
            where = f"{file.name}: {plural}[{at}]"
            if not isinstance(item, dict):
                raise FileError(f"{where}: must be a mapping")
            objects += [_object(where, kind, each) for each in _each(kind, item)]
    return objects[0].tenant.tenant_id, objects


def _each(kind: str, item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    key = _RANGED.get(kind, "")
    match = _RANGE.fullmatch(str(item.get(key, "")))
    if match is None:
        yield item
        return
    first, last, width = int(match[2]), int(match[3]), len(match[2])
    for n in range(first, last + 1):
        number = f"{n:0{width}d}"
        values = {"number": match[1] + number, "n": str(n - first + 1), "nn": number}
        yield _filled({**item, key: match[1] + number}, values)


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for name, text in values.items():
            value = value.replace(f"${{{name}}}", text)
        return value
    if isinstance(value, dict):
        return {key: _filled(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, values) for inner in value]
    return value


def _object(where: str, kind: str, item: Mapping[str, Any]) -> ConfigObject:
    fields = dict(item)
    options = _sections(fields.pop("options", None) or {})
    if kind == "person" and isinstance(fields.get("skills"), dict):
        fields["skills"] = [{"skill": name, "level": level} for name, level in fields["skills"].items()]
    if kind == "dn" and isinstance(fields.get("type"), str):
        fields["type"] = "DN_TYPE_" + fields["type"].upper()
    point = fields.get("route_point")
    if isinstance(point, dict) and isinstance(point.get("parameters"), dict):
        parameters = [{"name": name, "value": str(value)} for name, value in point["parameters"].items()]
        fields["route_point"] = {**point, "parameters": parameters}
    try:
        return ParseDict({kind: fields, "options": options}, ConfigObject())
    except ParseError as error:
        raise FileError(f"{where}: {error}") from None


def _sections(options: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"name": section, "options": [{"name": name, "value": str(value)} for name, value in entries.items()]}
        for section, entries in options.items()
    ]


IMPORT_S = 1800.0
"""Longest import, seconds: clear agent passwords cost 40 ms each."""


async def send(target: str, tenant: str, objects: Sequence[ConfigObject]) -> ImportObjectsResponse:
    """Imports objects through a Config node's own socket."""

    async def parts() -> Any:
        part, size = list[ConfigObject](), 0
        for message in objects:
            if part and (len(part) == PART or size > PART_BYTES):
                yield ImportObjectsRequest(tenant=tenant, objects=part)
                part, size = [], 0
            part.append(message)
            size += message.ByteSize()
        yield ImportObjectsRequest(tenant=tenant, objects=part)

    async with grpc.aio.insecure_channel(target) as channel:
        call = ConfigServiceStub(channel).ImportObjects
        answer: ImportObjectsResponse = await call(
            parts(), timeout=IMPORT_S, metadata=((PEER_KEY, OPERATOR),)
        )
        return answer


async def _main(arguments: argparse.Namespace) -> int:
    variables = dict(pair.partition("=")[::2] for pair in arguments.set)
    try:
        tenants = read_folder(arguments.folder, variables)
        for tenant, objects in tenants.items():
            done = await send(arguments.target, tenant, objects)
            sys.stdout.write(
                f"{tenant}: {done.created} created, {done.updated} updated, {done.unchanged} unchanged\n"
            )
    except (FileError, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    except grpc.aio.AioRpcError as error:
        sys.stderr.write(f"{error.code().name}: {error.details()}\n")
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.config.load", description="Imports tenants from files."
    )
    parser.add_argument("folder", type=Path, help="folder of *.yaml files, one a tenant")
    parser.add_argument("--target", required=True, help="a Config node's own socket: unix:/path or host:port")
    parser.add_argument(
        "--set", action="append", default=["net=10"], metavar="NAME=VALUE", help="value of ${NAME}"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(_arguments())))
