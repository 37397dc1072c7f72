"""The stubs and the module say the same."""

import ast
import inspect
from pathlib import Path
from types import ModuleType

import pytest
import voicecore
import voicecore.hash
import voicecore.sip
import voicecore.sip.digest
import voicecore.sip.sdp

MODULES = [voicecore.hash, voicecore.sip, voicecore.sip.digest, voicecore.sip.sdp]


def stub_of(module: ModuleType) -> ast.Module:
    path = Path(str(module.__file__))
    return ast.parse(path.with_suffix(".pyi").read_text())


def members(node: ast.ClassDef) -> set[str]:
    names = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    return names | {
        item.target.id
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.__name__))
def test_every_name_of_the_stub_exists_and_the_other_way_round(module: ModuleType) -> None:
    stub = stub_of(module)
    for node in stub.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert hasattr(module, node.name), node.name
    exported = {name for name in module.__all__ if name != "Direction"}
    declared = next(
        {str(ast.literal_eval(item)) for item in node.value.elts}
        for node in stub.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "__all__"
        and isinstance(node.value, ast.List)
    )
    assert exported == declared - {"Direction"}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.__name__))
def test_every_member_of_every_class_exists_and_is_documented(module: ModuleType) -> None:
    for node in stub_of(module).body:
        if not isinstance(node, ast.ClassDef):
            continue
        cls = getattr(module, node.name)
        errors = {"position", "rule", "status"} if issubclass(cls, Exception) else set()
        declared = members(node) - {"__init__"} - errors
        missing = {name for name in declared if not hasattr(cls, name)}
        assert not missing, (node.name, missing)
        inherited = {name for base in cls.__mro__[1:] for name in vars(base)}
        extra = {name for name in vars(cls) if not name.startswith("_")} - declared - inherited
        assert not extra, (node.name, extra)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.__name__))
def test_parameter_names_agree(module: ModuleType) -> None:
    for node in stub_of(module).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        found = list(inspect.signature(getattr(module, node.name)).parameters)
        wanted = [arg.arg for arg in node.args.args + node.args.kwonlyargs]
        assert found == wanted, node.name


def test_version_is_that_of_the_crate() -> None:
    crate = Path(str(voicecore.__file__)).parents[2] / "Cargo.toml"
    assert f'version = "{voicecore.__version__}"' in crate.read_text()
