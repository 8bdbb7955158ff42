"""The command ``render``: what it draws, what it leaves alone, and what it finds stale."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from fsm_mediator import Mediator
from fsm_mediator.cli.commands import cli
from fsm_mediator.cli.console import APP, MISSING, NOT_FOUND, USAGE
from fsm_mediator.cli.console import DID_NOT_SUCCEED as STALE
from fsm_mediator.diagram import saga_diagram
from tests import cli_app
from tests.test_group_diagrams import saga as group_saga

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
ONE = "tests.cli_app:checkout"
ALL = "tests.cli_app:sagas"


def broken(where):
    """A function that does not give its sagas by itself."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, and an empty world of participants."""
    monkeypatch.setenv("CLI_APP_FOLDER", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def render(here):
    """Runs the command in this process; checks its exit code."""

    def run(*words, code=0):
        result = CliRunner().invoke(cli, ["render", *map(str, words)])
        assert result.exit_code == code, (words, result.output, result.exception)
        return result.output

    return run


@pytest.mark.parametrize("suffix", ["svg", "dot", "mmd", "md", "png", "pdf"])
def test_saga_is_drawn_in_the_format_of_the_suffix(render, here, suffix):
    """`fsm-mediator render module:saga -o FILE` draws what `saga.diagram("steps").render(FILE)` draws."""
    render(ONE, "-o", f"deep/checkout.{suffix}")

    wanted = saga_diagram(cli_app.checkout, "steps").render(here / f"wanted.{suffix}").read_bytes()
    drawn = (here / f"deep/checkout.{suffix}").read_bytes()
    assert drawn == wanted if suffix != "pdf" else drawn.startswith(b"%PDF")


def test_view_and_theme_are_taken(render, here):
    """The options are those of the library."""
    render(ONE, "-o", "checkout.dot", "-o", "same.mmd", "--view", "steps", "--theme", "dark")

    wanted = saga_diagram(cli_app.checkout, view="steps", theme="dark")
    assert (here / "checkout.dot").read_text() == wanted.to_dot()
    assert (here / "same.mmd").read_text() == wanted.to_mermaid()


def test_what_is_shown_can_be_chosen(render, here):
    """Options say what is hidden, how wide it is, under which title and with which legend; of a folder, too."""
    options = ("--hide", "stuck", "--hide", "undo", "--width", "400", "--title", "How it goes", "--no-legend")
    render(ONE, "-o", "a.dot", *options)
    render(ONE, "-o", "docs/", "-f", "dot", *options)

    wanted = cli_app.checkout.diagram("steps", hide={"stuck", "undo"}, title="How it goes", width=400, legend=False)
    assert (here / "a.dot").read_text() == wanted.to_dot()
    assert (here / "docs" / "checkout.dot").read_text() == wanted.to_dot()
    assert (here / "docs" / "checkout-detail.dot").read_text() == wanted.with_(view="detail").to_dot()


def test_number_of_branches_can_be_chosen(render, here):
    """``--branches`` and the setting ``branches`` limit the branches of each group; ``all`` draws every branch."""
    wide = "tests.test_group_diagrams:saga"
    render(wide, "-o", "one.dot", "--branches", "1")
    render(wide, "-o", "every.dot", "--branches", "all")

    assert (here / "one.dot").read_text() == group_saga.diagram("steps", branches=1).to_dot()
    assert "1 more" in (here / "one.dot").read_text()
    assert (here / "every.dot").read_text() == group_saga.diagram("steps", branches=None).to_dot()
    assert "at least 1, or 'all'" in render(wide, "-o", "x.dot", "--branches", "few", code=USAGE)

    (here / "pyproject.toml").write_text(
        f'[tool.fsm-mediator]\napp = "{wide}"\n[tool.fsm-mediator.diagrams]\nfolder = "docs"\nformats = ["dot"]\n'
        'view = "steps"\nbranches = 1\n'
    )
    render()
    assert (here / "docs" / "fulfilment.dot").read_text() == (here / "one.dot").read_text()


def test_execution_is_drawn_from_its_journal(render, here):
    """A run's way is drawn by its id: from the app's sagas or the saga alone, still or moving."""
    with Mediator(*cli_app.sagas, journal="sagas.db") as mediator:
        outcome = mediator.run("checkout", {"amount": 500}, saga_id="o-1", check=False)
    options = ("--journal", "sagas.db", "--id", "o-1")

    render(ALL, *options, "-o", "o-1.dot")
    render(ONE, *options, "-o", "o-1.svg", "--animate")

    assert (here / "o-1.dot").read_text() == outcome.diagram("steps").to_dot()
    assert "@keyframes" in (here / "o-1.svg").read_text()
    render(ONE, *options, "-o", "o-1.svg", "--animate", "--check")
    render(ONE, *options, "-o", "o-1.svg", "--check", code=STALE)


def test_check_passes_what_is_fresh_and_writes_nothing(render, here):
    """A fresh file passes; the check needs no Graphviz and touches nothing."""
    render(ONE, "-o", "a.svg", "-o", "a.dot", "-o", "a.mmd")
    before = {path: path.stat().st_mtime_ns for path in here.iterdir()}

    assert render(ONE, "-o", "a.svg", "-o", "a.dot", "-o", "a.mmd", "--check") == ""

    assert {path: path.stat().st_mtime_ns for path in here.iterdir()} == before


@pytest.mark.parametrize("suffix", ["svg", "dot", "mmd", "md"])
def test_check_ends_with_1_and_a_diff_where_a_file_is_stale(render, here, suffix):
    """A committed picture of a saga that has changed is told with what is different."""
    saga_diagram(cli_app.refuse, "steps").render(here / f"a.{suffix}")

    told = render(ONE, "-o", f"a.{suffix}", "--check", code=STALE)

    assert told.startswith(f"--- a.{suffix} (as it is)\n+++ a.{suffix} (as it should be)\n")
    assert re.search(r"^\+.*reserve", told, re.MULTILINE) or suffix == "mmd"
    assert re.search(r"^-.*pay", told, re.MULTILINE)
    assert "pay" in (here / f"a.{suffix}").read_text()


def test_check_of_a_file_that_is_not_there_fails(render):
    """What was never drawn is stale."""
    assert "+digraph" in render(ONE, "-o", "a.dot", "--check", code=STALE)


def test_fresh_files_are_left_alone(render, here):
    """Another version of Graphviz does not change what still shows the same: no noise in a commit."""
    render(ONE, "-o", "a.svg")
    drawn_elsewhere = (here / "a.svg").read_text().replace("<polygon ", "<polygon  ")
    (here / "a.svg").write_text(drawn_elsewhere)

    assert "a.svg is up to date" in render(ONE, "-o", "a.svg")

    assert (here / "a.svg").read_text() == drawn_elsewhere


def test_all_sagas_are_drawn_into_a_folder_with_an_index(render, here):
    """A folder gets both views of every saga, and a page that shows and describes them."""
    render(ALL, "-o", "docs/", "-f", "svg", "-f", "mmd")

    files = {path.name for path in (here / "docs").iterdir()}
    parts = itertools.product(("checkout", "refuse"), ("", "-detail"), ("svg", "mmd"))
    names = {f"{name}{view}.{kind}" for name, view, kind in parts}
    assert files == names | {"README.md"}
    index = (here / "docs" / "README.md").read_text()
    assert set(re.findall(r"\]\(([^)]+)\)", index)) == names
    assert saga_diagram(cli_app.checkout, "steps").alt in index
    render(ALL, "-o", "docs/", "-f", "svg", "-f", "mmd", "--check")


def test_index_without_svg_shows_mermaid(render, here):
    """Where no Graphviz is wanted, the page shows the charts that GitHub and MkDocs draw."""
    render(ALL, "-o", "docs/", "-f", "mmd", "--index", "index.md", "--view", "steps")

    index = (here / "docs" / "index.md").read_text()
    assert index.count("```mermaid\nflowchart LR\n") == 2
    assert {path.name for path in (here / "docs").iterdir()} == {"checkout.mmd", "refuse.mmd", "index.md"}


def test_saga_that_is_gone_takes_its_pictures_along(render, here):
    """A folder holds no picture of a saga that there is no more; other people's files stay."""
    render(ALL, "-o", "docs/")
    (here / "docs" / "photo.svg").write_text("<svg/>")

    assert "refuse.svg: no saga draws it now" in render(ONE, "-o", "docs/", "--check", code=STALE)
    assert "refuse.svg removed" in render(ONE, "-o", "docs/")

    assert {path.name for path in (here / "docs").iterdir()} == {
        "checkout.svg",
        "checkout-detail.svg",
        "README.md",
        "photo.svg",
    }


def test_somebody_s_own_readme_is_never_written_over(render, here):
    """A folder that has a README of its own is refused, and nothing is drawn into it."""
    (here / "docs").mkdir()
    (here / "docs" / "README.md").write_text("# Mine\n")

    assert "give the index another name with --index" in render(ALL, "-o", "docs", code=APP)

    assert [path.name for path in (here / "docs").iterdir()] == ["README.md"]
    assert (here / "docs" / "README.md").read_text() == "# Mine\n"


def test_settings_say_it_once_for_all(render, here):
    """With the folder in pyproject.toml the command needs no words, from any folder of the project."""
    (here / "pyproject.toml").write_text(
        f'[tool.fsm-mediator]\napp = "{ALL}"\n'
        '[tool.fsm-mediator.diagrams]\nfolder = "docs/sagas"\nformats = ["dot"]\nview = "steps"\ntheme = "dark"\n'
    )

    assert "docs/sagas/checkout.dot drawn" in render()

    wanted = saga_diagram(cli_app.checkout, view="steps", theme="dark").to_dot()
    assert (here / "docs/sagas/checkout.dot").read_text() == wanted
    render("--check")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((ONE,), APP, "no output: "),
        ((ALL, "-o", "a.svg"), APP, "which of the sagas checkout, refuse?"),
        ((ALL, "-o", "a.svg", "--saga", "nothing"), APP, "has no saga 'nothing'; it has checkout, refuse"),
        ((ONE, "-o", "a.bmp"), USAGE, "there is no format 'bmp'; there are svg, png"),
        ((ONE, "-o", "a.png", "--check"), APP, "cannot be checked"),
        ((ONE, "-o", "docs/", "-f", "png", "--check"), APP, "a .png cannot be checked"),
        (("tests.cli_app:nothing", "-o", "a.svg"), APP, "takes a mediator, a saga, or a list of sagas"),
        (("tests.cli_app:reserve", "-o", "a.svg"), APP, "takes a mediator, a saga, or a list of sagas"),
        (("tests.test_render:broken", "-o", "a.svg"), APP, "was called, without arguments, for its sagas, and raised"),
        ((ONE, "-o", "a.svg", "--view", "side"), USAGE, "'side' is not one of"),
        ((ONE, "-o", "a.svg", "-j", "sagas.db", "--id", "o-2"), NOT_FOUND, "no execution 'o-2'"),
        ((ONE, "-o", "docs/", "-j", "sagas.db", "--id", "o-1"), APP, "into a file, not into a folder"),
        ((ONE, "-o", "/proc/no/a.dot"), APP, "cannot be written"),
    ],
)
def test_mistakes_say_what_to_do(render, here, words, code, says):
    """A mistake ends with the documented exit code and says what to type instead."""
    with Mediator(*cli_app.sagas, journal="sagas.db") as mediator:
        mediator.run("checkout", {"amount": 5}, saga_id="o-1")

    assert says in render(*words, code=code).replace("\n", " ")


def test_without_graphviz_it_says_what_to_install_and_text_is_drawn_all_the_same(render, here, monkeypatch):
    """Who has no Graphviz is told both cures, with an exit code of its own; DOT, Mermaid and checks need none."""
    render(ONE, "-o", "a.svg")
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", "/nowhere")

    told = render(ONE, "-o", "b.png", code=MISSING)

    assert "'dot' is on the PATH" in told
    assert "fsm-mediator[diagrams]" in told
    render(ONE, "-o", "a.svg", "--check")
    render(ONE, "-o", "b.mmd", "-o", "b.dot")


def test_hooks_of_pre_commit_draw_and_check(here):
    """A project that names our hooks has its pictures drawn, and a stale one found, as pre-commit runs them."""
    hooks = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    (here / "shop.py").write_text((ROOT / "tests" / "cli_app.py").read_text())
    (here / "pyproject.toml").write_text(
        '[tool.fsm-mediator]\napp = "shop:sagas"\n[tool.fsm-mediator.diagrams]\nfolder = "docs"\n'
    )

    def hook(name):
        assert hooks[name]["pass_filenames"] is False
        command, *words = shlex.split(hooks[name]["entry"])
        found = shutil.which(command, path=str(Path(sys.executable).parent))
        assert found
        return subprocess.run([found, *words], cwd=here, capture_output=True, text=True, check=False)

    assert hook("saga-diagrams-check").returncode == STALE
    assert hook("saga-diagrams").returncode == 0
    assert hook("saga-diagrams-check").returncode == 0
    (here / "shop.py").write_text((here / "shop.py").read_text().replace('"pay"', '"pay_later"'))
    told = hook("saga-diagrams-check")
    assert told.returncode == STALE
    assert "+++ docs/refuse.svg" in told.stdout
    assert "pay_later" in told.stdout
