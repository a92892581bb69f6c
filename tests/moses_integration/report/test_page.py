"""The page and its numbers: whole, quoted, asking nothing of the net, the same twice."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from toys import save_model

from moses_integration.cli import main
from moses_integration.report.page import nats, number, script_json, shade

VOID = {"meta", "input", "img", "br"}


class Reader(HTMLParser):
    """Elements, the texts of cells, the content of scripts; checks that elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.cells: list[str] = []
        self.data: dict[str, str] = {}
        self._id = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        assert tag not in ("b", "img"), "out of the table"
        if "id" in given:
            assert given["id"] not in self.ids
            self.ids.add(given["id"])
        self.links += [given[name] for name in ("href", "src") if name in given]
        if tag not in VOID:
            self.open.append(tag)
            self._id = given.get("id", "") if tag == "script" else self._id
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.data[self._id] = self.data.get(self._id, "") + data
        elif "td" in self.open:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def read(written: Path) -> Reader:
    return Reader(written.read_text("utf-8"))


def test_links_lead_within_the_page(read):
    assert read.links
    assert all(link.startswith("#") and link[1:] in read.ids for link in read.links)


def test_every_section_is_there(read):
    sections = "summary scores distribution disagreements targets generated words unknown maps"
    assert {*sections.split(), "training", "tuning", "speed", "reading"} <= read.ids


def test_what_is_html_in_the_table_is_text(read):
    assert any(cell.strip().startswith("</script><b>la</b>") for cell in read.cells)
    points = json.loads(read.data["specs"])["scores"]["vconcat"][1]["hconcat"][0]["layer"][1]
    assert "</script><b>la</b>" in {point["s"] for point in points["data"]["values"]}


def test_nothing_is_fetched(written):
    text = written.read_text("utf-8")
    assert "default-src 'none'" in text
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)  # but Vega's own
    assert not re.findall(r"https?://", own)


def test_the_numbers_beside_it(written, table):
    found = json.loads(written.with_suffix(".json").read_text("utf-8"))
    lines = [line.split(" ||| ") for line in table.read_text().splitlines()]
    assert found["survey"]["entries"] == len(lines)
    scores = np.array([[float(score) for score in line[2].split()] for line in lines])
    pearson = np.corrcoef(np.log(scores[:, 2]), np.log(scores[:, 4]))[0, 1]
    assert found["survey"]["correlations"][0]["pearson"] == pytest.approx(pearson)
    assert [column["is_new"] for column in found["columns"]] == [False] * 4 + [True]
    assert [w["name"] for w in found["weights"] if w["column"]] == ["TM0 5"]
    assert found["not_shown"] == []
    assert found["rescoring"]["run"]["points"][-1]["entries"] == len(lines)
    assert found["command"].startswith("phrase-scorer report ")


def test_the_same_page_twice(written, table, tmp_path, monkeypatch):
    pages = []
    for number_ in (1, 2):
        folder = tmp_path / f"{number_}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        assert main(["report", str(table), "--model", str(table.parent / "rnn"), "--quiet"]) == 0
        pages.append([Path(name).read_bytes() for name in ("report.html", "report.json")])
    assert pages[0] == pages[1]


def test_without_a_model(table, tmp_path):
    pytest.importorskip("vl_convert")
    page = tmp_path / "r.html"
    assert main(["report", str(table), "--output", str(page), "--quiet"]) == 0
    read = Reader(page.read_text("utf-8"))
    assert not {"words", "maps", "training", "tuning", "speed", "generated", "unknown"} & read.ids
    told = json.loads(page.with_suffix(".json").read_text())["not_shown"]
    assert told[0].endswith("training: no --model")


def test_soft_alignment_is_a_grid(table, tmp_path):
    pytest.importorskip("vl_convert")
    save_model(tmp_path / "attention", architecture="attention")
    plain = table.parent / "table"
    options = ["--model", str(tmp_path / "attention"), "--quiet"]
    assert main(["rescore", str(plain), str(tmp_path / "t"), *options, "--threads", "1"]) == 0
    page = tmp_path / "r.html"
    assert main(["report", str(tmp_path / "t"), *options, "--output", str(page)]) == 0
    text = page.read_text("utf-8")
    Reader(text)
    (first, *_) = json.loads(page.with_suffix(".json").read_text())["insight"]["words"]
    looked = max(first["weights"][0])
    read = first["read"][first["weights"][0].index(looked)]
    assert f'title="{first["words"][0]} ← {read}: {looked:.0%}"'.replace("%", " %") in text
    assert f"<small>← {read}</small>" in text


def test_figures(table, tmp_path):
    pytest.importorskip("vl_convert")
    folder = tmp_path / "figures"
    command = ["report", table, "--tuning", table.parent / "tuned", "--output",
               tmp_path / "r.html", "--figures", folder, "--quiet"]  # fmt: skip
    assert main([*map(str, command)]) == 0
    names = ["distribution", "lengths", "scores", "tuning-bleu", "tuning-weights"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        f"{name}.{kind}" for name in names for kind in ("svg", "png")
    )
    assert (folder / "scores.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (folder / "scores.svg").read_bytes()[:200]


def test_script_json_cannot_end_a_script():
    text = script_json({"</script>": "<!--"})
    assert "<" not in text
    assert json.loads(text) == {"</script>": "<!--"}


def test_numbers_as_they_are_shown():
    assert [nats(value) for value in (-0.001, -1.239, 0.0)] == ["0.00", "-1.24", "0.00"]
    assert [number(value) for value in (1.0, 12345.0, 0.000123456, 0.5)] == [
        *("1", "12,345", "0.0001235", "0.5"),
    ]
    assert [shade(value) for value in (0.0, -0.1, -0.2, -3.0, -9.0)] == [0, 0, 1, 4, 5]
