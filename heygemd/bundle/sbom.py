"""The bundle's list of components (CycloneDX 1.5) and the licence texts, read from what was packed.

Ours and not cyclonedx-python-lib: even as an extra that is seven packages (7 MB) for two literals, ``component`` and
``document``, and reading the licences would stay ours.  The tests check the result with it.
"""

from __future__ import annotations

import json
import re
import uuid
import zipfile
from collections.abc import Iterable, Sequence
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Literal, TypedDict
from urllib.parse import quote

from heygemd.bundle.wheels import normal
from heygemd.models.store import RECORD, ModelRecord, digest

LICENCE_LETTERS = 200
_LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice|authors)", re.IGNORECASE)
_SECTION = re.compile(r"^#+ *licen[cs]e *\n+(.+?)\s*(?=^#|\Z)", re.IGNORECASE | re.MULTILINE | re.DOTALL)


class LicenceName(TypedDict):
    """A licence as an SPDX expression or any other name."""

    name: str


class LicenceChoice(TypedDict):
    """One entry of a component's licences."""

    license: LicenceName


class Hash(TypedDict):
    """The hash of a component's file, in hexadecimal."""

    alg: Literal["SHA-256"]
    content: str


# The key "bom-ref" is no name in Python.
Component = TypedDict(
    "Component",
    {
        "type": str, "bom-ref": str, "purl": str, "name": str, "version": str, "licenses": list[LicenceChoice],
        "hashes": list[Hash],
    },
)  # fmt: skip


class DocumentMetadata(TypedDict):
    """What the whole bundle is."""

    component: Component


class Document(TypedDict):
    """A CycloneDX document."""

    bomFormat: Literal["CycloneDX"]
    specVersion: Literal["1.5"]
    version: int
    serialNumber: str
    metadata: DocumentMetadata
    components: list[Component]


def of_wheel(wheel: Path, licences: Path) -> Component:
    """The component for a wheel; its licence texts go into a folder of their own below ``licences``."""
    with zipfile.ZipFile(wheel) as file:
        info = next(n.split("/")[0] for n in file.namelist() if n.endswith(".dist-info/METADATA"))
        about = HeaderParser().parsestr(file.read(f"{info}/METADATA").decode("utf-8", "replace"))
        texts = {
            name.partition("/")[2].removeprefix("licenses/").replace("/", "-"): file.read(name)
            for name in file.namelist()
            if name.startswith(f"{info}/") and _LICENCE_FILE.match(name.rpartition("/")[2])
        }
    if not texts and (section := _licence_section(about)):
        texts = {"from-its-description.txt": f"{section}\n".encode()}
    for name, text in texts.items():
        target = licences / f"{about['Name']}-{about['Version']}" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text)
    name = normal(about["Name"])
    kind = "application" if name == "heygemd" else "library"
    return component(kind, about["Name"], about["Version"], f"pkg:pypi/{name}", licence_of(about), wheel)


def of_model(folder: Path, licences: Path) -> Component:
    """The component for an imported model; its terms are its licence text."""
    model: ModelRecord = json.loads((folder / RECORD).read_bytes())
    target = licences / f"model-{model['name']}" / "terms.txt"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"{model['licence']}\n\n{model['terms']}\n\nOrigin: {model['origin'] or 'unknown'}\n")
    main = max((folder / file["name"] for file in model["files"]), key=lambda path: path.stat().st_size)
    where, version = f"pkg:generic/{model['name']}", model["sha256"][:12]
    return component("machine-learning-model", model["name"], version, where, model["licence"], main)


def component(kind: str, name: str, version: str, purl: str, licence: str, file: Path) -> Component:
    """One component; ``licence`` is an SPDX expression or a name, ``file`` is hashed."""
    where = f"{purl}@{quote(version, safe='')}"
    return {
        "type": kind, "bom-ref": where, "purl": where, "name": name, "version": version,
        "licenses": [{"license": {"name": (licence or "unknown").splitlines()[0][:LICENCE_LETTERS]}}],
        "hashes": [{"alg": "SHA-256", "content": digest(file)[0]}],
    }  # fmt: skip


def licence_of(about: Message) -> str:
    """The licence that a package's metadata name: in a field, a classifier, or (insightface) only in a section of its
    description, whose first sentence is given unchanged."""
    classified = "; ".join(_classified(about.get_all("Classifier")))
    sentence = re.split(r"(?<=\.)\s", " ".join(_licence_section(about).split()))[0].replace("*", "")
    return str(about.get("License-Expression") or classified or about.get("License") or sentence or "unknown")


def _licence_section(about: Message) -> str:
    """The section "License" of a package's description; empty if missing."""
    match = _SECTION.search(str(about.get_payload()))
    return match[1] if match else ""


def _classified(classifiers: Iterable[object] | None) -> list[str]:
    return [str(c).rpartition(" :: ")[2] for c in classifiers or () if str(c).startswith("License ::")]


def document(components: Sequence[Component]) -> Document:
    """The CycloneDX 1.5 document; its serial number is derived from the contents."""
    content = json.dumps(list(components), sort_keys=True)
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "metadata": {"component": next(c for c in components if c["type"] == "application")},
        "components": [c for c in components if c["type"] != "application"],
    }  # fmt: skip
