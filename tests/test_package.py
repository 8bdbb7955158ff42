"""The package: what an index gets, what each extra brings, and what a fresh clone installs."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hatch_build import page_of_index

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
HOOK = SETTINGS["tool"]["hatch"]["metadata"]["hooks"]["custom"]
HOME = "https://example.org/fsm_mediator"

FOR_WORK = {"books", "browser", "dev", "engines"}
"""Extras for work on the package itself: a target of the Makefile installs each."""

MODULES = {
    "furo": "furo",
    "myst-parser": "myst_parser",
    "psycopg": "psycopg",
    "pyyaml": "yaml",
    "restate-sdk": "restate",
    "opentelemetry-api": "opentelemetry",
}
"""Modules of the distributions whose module has another name."""


def sources() -> dict[Path, ast.Module]:
    """The modules of the package, and the settings of the documentation."""
    paths = [*(ROOT / "fsm_mediator").rglob("*.py"), ROOT / "docs" / "conf.py"]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def imported() -> set[str]:
    """The top-level names of all modules that the package imports, wherever in it."""
    found = set()
    for tree in sources().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).partition(".")[0])
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the sdist and the wheel, as `python -m build` makes them of the working tree."""
    folder = tmp_path_factory.mktemp("built")
    words = ["--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run([sys.executable, "-m", "build", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_each_extra_brings_what_the_package_imports():
    """Nobody installs an extra for nothing: each distribution of it is imported, or is an extension of the docs."""
    names = imported() | set(re.findall(r'"(\w+)"', (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")))
    idle = {}
    for extra, needs in PROJECT["optional-dependencies"].items():
        modules = {MODULES.get(name, name) for name in (Requirement(need).name for need in needs)}
        if extra not in FOR_WORK and (rest := modules - names):
            idle[extra] = rest

    assert idle == {}


def test_each_extra_for_work_on_the_package_is_installed_by_make():
    """An extra that only this repository needs is one that its Makefile installs."""
    recipes = (ROOT / "Makefile").read_text(encoding="utf-8")
    installed = {name for group in re.findall(r"'\.\[([\w,]+)\]'", recipes) for name in group.split(",")}

    assert installed == FOR_WORK


def test_each_extra_that_an_error_names_exists():
    """The install line in an error message works."""
    calls = [node for tree in sources().values() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = {
        call.args[1].value
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id == "MissingExtraError"
        and isinstance(call.args[1], ast.Constant)
    }

    assert named
    assert named - set(PROJECT["optional-dependencies"]) == set()


def test_readme_has_an_install_line_for_each_extra_of_users():
    """The README says for each extra what it is for."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = {name for group in re.findall(r"fsm-mediator\[([\w,]+)\]", page) for name in group.split(",")}

    assert listed == set(PROJECT["optional-dependencies"]) - FOR_WORK


def test_distributions_hold_what_they_should(built):
    """The wheel holds the package and nothing else, the sdist every file of the repository; twine accepts both."""
    from twine.commands.check import check

    wheel, sdist = next(built.glob("*.whl")), next(built.glob("*.tar.gz"))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout  # noqa: S607
    here = {str(path.relative_to(ROOT)) for path in (ROOT / "fsm_mediator").rglob("*.*")}
    files = set(tracked.split()) or {name for name in here if "__pycache__" not in name}  # an sdist is no clone
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = message_from_bytes(archive.read(next(n for n in archive.namelist() if n.endswith("/METADATA"))))
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}

    assert {name for name in files if name.startswith("fsm_mediator/")} - shipped == set()
    assert {name.partition("/")[0] for name in shipped} == {"fsm_mediator"}
    assert files - packed == set()
    assert metadata["Name"] == "fsm-mediator"
    assert ("](diagrams" in metadata.get_payload(), '"diagrams' in metadata.get_payload()) == (False, False)
    assert set(metadata.get_all("Project-URL") or ()) == set() if not HOOK["home"] else True
    assert check([str(wheel), str(sdist)], strict=True) is False


@pytest.mark.parametrize(("tag", "version"), [("v0.3.0", r"0\.3\.0"), (None, r"0\.1\.dev1\+g.*")])
def test_version_is_that_of_the_tag(tmp_path, tag, version):
    """A commit that is tagged has the version of the tag; a clone without tags has one below the first release."""
    (tmp_path / "fsm_mediator").mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    commands = [
        "init -q",
        "add .",
        "-c user.name=a -c user.email=a@example.org commit -qm x",
        *([f"tag {tag}"] * bool(tag)),
    ]
    for words in commands:
        subprocess.run(["git", *words.split()], cwd=tmp_path, check=True)  # noqa: S607

    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert re.fullmatch(version, done.stdout.strip().removesuffix(".d20261129")), done.stdout


def test_index_page_has_absolute_links_and_pictures():
    """With a home, every link and picture of the README on an index is an address: a release's are those of its tag."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = page_of_index(readme, HOME, "0.1.0", HOOK)

    assert (
        f'<a href="{HOME}/blob/v0.1.0/diagrams/readme/detail.svg"><img src="{HOME}/raw/v0.1.0/diagrams/readme/' in page
    )
    assert f"]({HOME}/blob/v0.1.0/docs/tutorial.md)" in page
    assert re.findall(r'\]\((?!https?:)[^)#][^)]*\)|(?:src|href)="(?!https?:)[^"]*"', page) == []
    assert f"]({HOME}/blob/HEAD/docs/tutorial.md)" in page_of_index(readme, HOME, "0.1.dev3+g12ab", HOOK)


def test_index_page_without_a_home_has_no_broken_links():
    """Without a home, a link is its text, and a picture is left out; addresses of others stay."""
    page = page_of_index((ROOT / "README.md").read_text(encoding="utf-8"), "", "0.1.0", HOOK)

    assert "<img" not in page
    assert re.findall(r"\]\((?!https?:)[^)#][^)]*\)", page) == []
    assert "](https://github.com/pytransitions/transitions)" in page
    assert "- The tutorial, and how to get diagrams into docs" in page


def test_picture_in_markdown_is_absolute_too():
    """A picture in Markdown's own form gets the address of a picture, and a link around it that of a file."""
    page = page_of_index("![a saga](a/b.svg) and [text](c.md#d)\n", HOME, "1.0", HOOK)

    assert page == f"![a saga]({HOME}/raw/v1.0/a/b.svg) and [text]({HOME}/blob/v1.0/c.md#d)\n"


def test_demo_installs_what_it_imports():
    """`make demo` installs the dependencies and the extra `cli`; the examples that it runs import no more."""
    modules = {"attrs", "graphviz", "msgspec", "transitions", "click", "rich"}
    found = set()
    for folder in ("profile_sync", "order_fulfilment"):
        for path in (ROOT / "examples" / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    found.add(str(node.module).partition(".")[0])

    assert found - set(sys.stdlib_module_names) - {"examples", "fsm_mediator"} <= modules
    needs = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cli"]]
    assert {Requirement(need).name for need in needs} == modules


def test_changelog_of_a_release_can_be_read_in_minutes():
    """Each release has at most 900 words: what its users need. Detail belongs into docs/history.md."""
    releases = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]

    assert releases
    assert {text.splitlines()[0]: len(text.split()) for text in releases if len(text.split()) > 900} == {}
