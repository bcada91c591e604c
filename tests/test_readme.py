"""Every Python block of README.md runs, and prints what it says it prints."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```(?:python|pycon)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FRAMEWORKS = re.compile(r"^\W*(?:import|from) (jax|tensorflow|torch)\b", re.MULTILINE)


def blocks() -> list[Any]:
    """Return the blocks as test parameters; those of a framework run when it is asked for."""
    text = README.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 2
        needs = FRAMEWORKS.search(match[1])
        # A framework's own warnings are not ours to turn into errors.
        ignoring_warnings = pytest.mark.filterwarnings("ignore")
        marks = [getattr(pytest.mark, needs[1]), ignoring_warnings] if needs else []
        found.append(pytest.param(match[1], line, id=f"line {line}", marks=marks))
    return found


def test_there_is_an_example_that_shows_its_output() -> None:
    assert any(">>> " in match for match in BLOCK.findall(README.read_text(encoding="utf-8")))


@pytest.mark.parametrize(("source", "line"), blocks())
def test_block(source: str, line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if ">>> " not in source:
        exec(compile("\n" * (line - 1) + source, str(README), "exec"), {"__name__": "readme"})
        return
    test = doctest.DocTestParser().get_doctest(source, {}, "README.md", str(README), line - 1)
    results = doctest.DocTestRunner().run(test)
    assert results.attempted > 0
    assert results.failed == 0
