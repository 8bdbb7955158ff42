"""The commands for a new project: `init` writes its files, and `schema` prints the JSON Schema of saga files."""

from __future__ import annotations

import keyword
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

import click

from fsm_mediator.cli.console import say
from fsm_mediator.saga_files import saga_file_schema

FILES: Final = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "__init__.py": "{name}/__init__.py",
    "services.py": "{name}/services.py",
    "sagas.py": "{name}/sagas.py",
    "app.py": "{name}/app.py",
    "test_sagas.py": "tests/test_sagas.py",
}
"""The files of the template. For each file: its name in the template, and its path in the new project."""


@click.command()
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), help="The folder to write. Default: a new folder, NAME.")
def init(name: str, folder: Path | None) -> None:
    """Write a small project: a saga with tests and a web app.

    The web app uses FastAPI. No file is overwritten.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise click.UsageError(f"{name!r} cannot be the name of a Python package: use letters, digits and underscores")
    root = Path(name) if folder is None else folder
    targets = {source: root / path.format(name=name) for source, path in FILES.items()}
    if taken := [str(path) for path in targets.values() if path.exists()]:
        raise click.UsageError(f"{', '.join(taken)} exists already; choose another name or --folder")
    template = resources.files("fsm_mediator.cli").joinpath("template")
    for source, path in targets.items():
        text = template.joinpath(f"{source}.txt").read_text(encoding="utf-8")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(text).substitute(name=name), encoding="utf-8")
        say(str(path))
    say(f"next: cd {root} && pip install -e '.[dev]' && pytest", "dim")


@click.command()
def schema() -> None:
    """Print the JSON Schema of saga files, for an editor.

    A saga file is a TOML or YAML file that combines registered steps. `load_saga` reads such a file.
    """
    click.echo(saga_file_schema(), nl=False)


COMMANDS: Final = (init, schema)
