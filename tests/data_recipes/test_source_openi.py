"""Source `openi`, quirk by quirk."""

from __future__ import annotations

import io
import tarfile

import pytest

from data_recipes.errors import UserError
from data_recipes.sources import fingerprint
from data_recipes.sources.openi import finding_of
from tests.data_recipes.datasets import dropped, harvest, reasons, said, write


def report(number: int, findings: str, impression: str, terms: list[str], images: list[str]) -> str:
    majors = "".join(f"<major>{term}</major>" for term in terms)
    shown = "".join(f'<parentImage id="{image}"><caption/></parentImage>' for image in images)
    return f"""<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="CXR{number}"/><Abstract>
        <AbstractText Label="FINDINGS">{findings}</AbstractText>
        <AbstractText Label="IMPRESSION">{impression}</AbstractText></Abstract>
        <MeSH>{majors}</MeSH>{shown}</eCitation>"""


REPORTS = {
    "ecgen-radiology/1.xml": report(1, "Clear lungs. There are no XXXX of effusion.", "Normal.", ["normal"],
                                    ["CXR1_1", "CXR1_2"]),
    "ecgen-radiology/2.xml": report(2, "", "Effusion, unchanged. Small effusion.",
                                    ["Pleural Effusion/left/small", "Catheters, Indwelling"], ["CXR2_1"]),
    "ecgen-radiology/3.xml": report(3, "Opacity.", "", ["Opacity/lung"], []),
    "ecgen-radiology/4.xml": report(4, "XXXX.", "", ["No Indexing"], ["CXR4_1"]),
    "ecgen-radiology/5.xml": report(5, "", "", ["Mass"], ["CXR5_1"]),
    "ecgen-radiology/6.xml": "<eCitation><uId",
    "ecgen-radiology/7.xml": '<!DOCTYPE x [<!ENTITY a "b">]><eCitation/>',
    "ecgen-radiology/8.xml": "<eCitation/>",
    "ecgen-radiology/read.me": "not a report",
}  # fmt: skip
VIEWS = """imageid,Rows,Columns,View Position
CXR1_1,2000,1000,PA
CXR1_2,2000,1000,LL
CXR2_1,2000,1000,AP
CXR4_1,2000,1000,PA
"""


def archive(reports: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in reports.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()


@pytest.fixture
def root(tmp_path):
    return write(tmp_path, {"NLMCXR_reports.tgz": archive(REPORTS), "nlmcxr_dicom_metadata.csv": VIEWS})


def test_a_report_is_the_findings_or_else_the_impression_without_removed_text_and_priors(root):
    found = harvest("openi", root)
    assert dict(said(found, "report")) == {"CXR1_1": "Clear lungs.", "CXR2_1": "Small effusion."}
    assert dropped(found, "report texts") == {"no sentence is left": 1}
    kept = dict(said(harvest("openi", root, report={"removed": "keep", "priors": "keep"}), "report"))
    assert kept["CXR1_1"].endswith("no XXXX of effusion.")
    assert kept["CXR2_1"] == "Effusion, unchanged. Small effusion."


def test_the_sections_and_their_order_are_a_policy(root):
    found = harvest("openi", root, report={"sections": ["impression"]})
    assert dict(said(found, "report")) == {"CXR1_1": "Normal.", "CXR2_1": "Small effusion."}


def test_views_and_sizes_come_from_their_table(root):
    found = harvest("openi", root)
    assert found.images.select("image_id", "view", "width", "height").rows() == [
        ("CXR1_1", "PA", 1000, 2000), ("CXR2_1", "AP", 1000, 2000), ("CXR4_1", "PA", 1000, 2000),
    ]  # fmt: skip
    assert dropped(found, "views") == {"view lateral": 1, "view unknown": 1}
    assert dropped(found, "reports with images") == {"report has no image": 1}


def test_mesh_terms_are_findings(root):
    found = harvest("openi", root, views=["PA", "AP", "unknown"])
    assert dict(said(found, "findings")) == {
        "CXR1_1": "no finding", "CXR2_1": "indwelling catheters, pleural effusion", "CXR5_1": "mass",
    }  # fmt: skip
    assert dropped(found, "images with MeSH terms") == {"report has no MeSH term": 1}


@pytest.mark.parametrize(
    ("term", "finding"),
    [
        ("Pleural Effusion/left/small", "pleural effusion"),
        ("Pulmonary Disease, Chronic Obstructive", "chronic obstructive pulmonary disease"),
        ("Aorta, Thoracic/tortuous/mild", "tortuous thoracic aorta"),
        ("Diaphragm/bilateral/flattened", "flattened diaphragm"),
        ("Lung", None),
        ("Technical Quality of Image Unsatisfactory ", None),
        ("", None),
    ],
)
def test_a_term_without_place_and_degree(term, finding):
    assert finding_of(term) == finding


def test_files_that_are_no_report_are_rejected_by_name(root):
    found = harvest("openi", root)
    assert {(file, why.split(":")[0]) for file, _, why in reasons(found)} == {
        (f"ecgen-radiology/{n}.xml", "is no report") for n in (6, 7, 8)
    }
    assert "declares entities" in str(reasons(found))  # none is ever expanded


def test_an_unpacked_folder_says_what_the_archive_says(root, tmp_path):
    packed = harvest("openi", root)
    files = {f"NLMCXR_reports/{name}": text for name, text in REPORTS.items()}
    other = write(tmp_path / "unpacked", {**files, "nlmcxr_dicom_metadata.csv": VIEWS, "else/9.xml": "<a/>"})
    found = harvest("openi", other)
    assert found.entries.drop("file").equals(packed.entries.drop("file"))
    assert found.images.equals(packed.images)
    assert {file for file, _, _ in reasons(found)} == {
        f"NLMCXR_reports/ecgen-radiology/{n}.xml" for n in (6, 7, 8)
    }


def test_a_changed_report_in_a_folder_changes_the_fingerprint_and_links_are_not_followed(tmp_path):
    root = write(tmp_path / "root", {f"reports/{n}.xml": REPORTS["ecgen-radiology/1.xml"] for n in (1, 2)})
    options = {"root": str(root), "pixels": "skip"}
    before = fingerprint("openi", options)
    assert fingerprint("openi", options) == before
    write(root, {"reports/2.xml": REPORTS["ecgen-radiology/2.xml"]})
    assert fingerprint("openi", options) != before
    write(tmp_path, {"secret.xml": REPORTS["ecgen-radiology/4.xml"]})
    (root / "reports/3.xml").symlink_to(tmp_path / "secret.xml")
    found = harvest("openi", root, views=["PA", "unknown"])
    assert "CXR4_1" not in found.images["image_id"].to_list()
    assert [file for file, _, _ in reasons(found)] == ["reports/3.xml"]


def test_a_truncated_archive_is_one_clear_line(tmp_path):
    root = write(tmp_path, {"NLMCXR_reports.tgz": archive(REPORTS)[:200]})
    with pytest.raises(UserError, match="is truncated or no archive"):
        harvest("openi", root)
