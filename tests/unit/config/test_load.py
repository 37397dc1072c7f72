"""Tenants from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.config.integrity import TenantModel, Write, plan
from services.config.keys import Keys
from services.config.load import FileError, read_file, read_folder
from services.config.objects import check_all

DEMO = Path(__file__).parents[3] / "demo" / "tenants"


def written(folder: Path, text: str) -> Path:
    file = folder / "t.yaml"
    file.write_text(text)
    return file


def test_the_demo_tenants_obey_every_rule() -> None:
    tenants = read_folder(DEMO, {"net": "10"})
    assert list(tenants) == ["t1", "t2", "t3"]
    for tenant, objects in tenants.items():
        check_all("objects", objects, tenant)
        writes = [Write(f"objects[{at}]", message) for at, message in enumerate(objects)]
        assert plan(TenantModel(), writes, 1).created == len(objects)
        assert "${" not in "".join(str(m) for m in objects if not m.HasField("dial_rule"))


def test_ranges_and_shorthands(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        tenant: {tenant_id: t1}
        dns:
          - number: "1[008-010]"
            type: extension
            switch: sip
            password: "pw-${number}-${n}"
            options: {TServer: {no-answer-timeout: 12}}
        persons:
          - {user_name: ada, employee_id: E, skills: {English: 8}}
        """,
    )
    tenant, objects = read_file(file, {})
    assert tenant == "t1"
    dns = [m for m in objects if m.HasField("dn")]
    assert [(m.dn.number, m.dn.password) for m in dns] == [
        ("1008", "pw-1008-1"),
        ("1009", "pw-1009-2"),
        ("1010", "pw-1010-3"),
    ]
    assert dns[0].options[0].options[0].value == "12"
    assert [(s.skill, s.level) for s in objects[-1].person.skills] == [("English", 8)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- x", "must be a mapping with a tenant"),
        ("tenant: {tenant_id: t1}\nphones: []", "unknown: phones"),
        ("tenant: {tenant_id: t1}\ndns: [7]", r"dns\[0\]: must be a mapping"),
        ("tenant: {tenant_id: t1}\ndns: [{numbr: 7}]", r"dns\[0\].*numbr"),
        ("tenant: {tenant_id: t1}\ndns: [{number: '1', type: phone}]", r"dns\[0\].*DN_TYPE_PHONE"),
        ("tenant: {", "t.yaml"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(FileError, match=said):
        read_file(written(tmp_path, text), {})


def test_an_empty_folder_is_no_folder_of_tenants(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no \*\.yaml"):
        read_folder(tmp_path, {})


def test_keys_are_read_back() -> None:
    keys = Keys("local")
    cases = (
        (keys.object("t1", "dn", 12), ("t1", "dn", "12")),
        (keys.counter("t1"), ("t1", "counter", "")),
        (keys.registrations("t1", "10.0*#+-_"), ("t1", "registrations", "10.0*#+-_")),
        (keys.login("t1", "A1"), ("t1", "logins", "A1")),
        (keys.dn_login("t1", "1001"), ("t1", "dn_logins", "1001")),
        (keys.domain("T1.Example"), ("", "_domains", "t1.example")),
        (keys.node("config-0"), ("", "_nodes", "config-0")),
    )
    for key, wanted in cases:
        parsed = keys.parse(key)
        assert parsed is not None
        assert (parsed.tenant, parsed.kind, parsed.id) == wanted
    assert keys.parse(keys.prefix + "t1/novelty/1") is None
    assert keys.parse(keys.secret_key_id()) is None
