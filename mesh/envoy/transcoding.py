"""REST/JSON at the edge: two transcoders, and what raw HTTP bodies need around them.

Contracts whose requests carry a google.api.HttpBody (RAW) take bodies and queries of any shape. The transcoder hands the
body on as it is; what it forgets, path with query and HTTP method, travels in two headers of ours. The status such a
service wants is a header of its answer, which one line of Lua puts in place: a transcoder can only map gRPC statuses.
All other contracts are strict: an unknown query parameter is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.grpc_json_transcoder.v3 import transcoder_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm

from mesh.envoy.contracts import Contract
from mesh.envoy.filters import http_filter, set_header
from mesh.metadata import HTTP_METHOD_KEY, HTTP_PATH_KEY, HTTP_STATUS_KEY

MAX_BODY = 4 * 1024 * 1024
"""Bytes of a REST request or answer: gRPC's own limit of a message."""
RAW = frozenset({"voice.orchestration.v1.SessionHttpService"})
"""Contracts with raw HTTP bodies."""
_ANY_SEGMENT = "[^/]+"
_STATUS = f"""
function envoy_on_response(handle)
  local status = handle:headers():get("{HTTP_STATUS_KEY}")
  if status then
    handle:headers():replace(":status", status)
    handle:headers():remove("{HTTP_STATUS_KEY}")
  end
end
"""


def template_regex(template: str) -> str:
    """The paths of a REST template: `/v1/tenants/{tenant}/tokens` -> `/v1/tenants/[^/]+/tokens`; `*` is a segment too."""
    parts = re.split(r"(\{[^}]*\}|\*)", template)
    return "".join(_ANY_SEGMENT if part.startswith(("{", "*")) else re.escape(part) for part in parts)


def transcoders(descriptors: str, contracts: Sequence[Contract]) -> list[hcm.HttpFilter]:
    """From REST to gRPC; `descriptors` is the file of the descriptor set."""
    bound = [contract.name for contract in contracts if any(method.http for method in contract.methods)]
    raw = [name for name in bound if name in RAW]
    strict = [name for name in bound if name not in RAW]
    found = [
        _transcoder("voicemesh.transcoder.raw", descriptors, raw, any_query=True),
        _transcoder("envoy.filters.http.grpc_json_transcoder", descriptors, strict, any_query=False),
    ]
    return [*(one for one, names in zip(found, (raw, strict), strict=True) if names), _original()]


def _transcoder(name: str, descriptors: str, services: Sequence[str], *, any_query: bool) -> hcm.HttpFilter:
    config = transcoder_pb2.GrpcJsonTranscoder(
        proto_descriptor=descriptors,
        services=services,
        convert_grpc_status=True,
        ignore_unknown_query_parameters=any_query,
        print_options=transcoder_pb2.GrpcJsonTranscoder.PrintOptions(
            always_print_primitive_fields=True, stream_newline_delimited=True
        ),
    )
    config.max_request_body_size.value = MAX_BODY
    config.max_response_body_size.value = MAX_BODY
    return http_filter(name, config)


def _original() -> hcm.HttpFilter:
    """Path and method before the transcoder, under names that no client can send: Envoy's own are taken from requests at
    the next hop."""
    told = ((HTTP_PATH_KEY, "x-envoy-original-path"), (HTTP_METHOD_KEY, "x-envoy-original-method"))
    mutations = [
        mutation_rules_pb2.HeaderMutation(append=set_header(ours, f"%REQ({theirs})%"))
        for ours, theirs in told
    ]
    config = header_mutation_pb2.HeaderMutation(
        mutations=header_mutation_pb2.Mutations(request_mutations=mutations)
    )
    return http_filter("voicemesh.original_path", config)


def chosen_status() -> hcm.HttpFilter:
    """Before the transcoders in the chain, so that it sees answers after them."""
    code = base_pb2.DataSource(inline_string=_STATUS)
    return http_filter("envoy.filters.http.lua", lua_pb2.Lua(default_source_code=code))
