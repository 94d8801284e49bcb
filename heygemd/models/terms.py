"""Public model files by their SHA-256, and the terms under which each is given.

No file of these comes with heygemd, and nothing here is ever fetched: an operator imports what they have.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Licence:
    """Terms in one sentence.  ``commercial``: whether commercial use is allowed; ``None``: unknown."""

    name: str
    terms: str
    commercial: bool | None


@dataclass(frozen=True, slots=True)
class PublicFile:
    """A public file."""

    sha256: str
    name: str
    origin: str
    licence: Licence


WAV2LIP_TERMS = Licence(
    "wav2lip",
    "The weights of Wav2Lip were trained on LRS2: research, academic and personal use only, no commercial use.",
    False,
)
UNLISTED_WAV2LIP = Licence(
    "unknown",
    "Unknown checkpoint. Assume commercial use is forbidden unless you trained it yourself on your own data.",
    None,
)
INSIGHTFACE_TERMS = Licence(
    "insightface",
    "The models in insightface's packs are for non-commercial research only, unless you bought a licence.",
    False,
)

KNOWN = {
    file.sha256: file
    for file in (
        PublicFile(
            "b78b681b68ad9fe6c6fb1debc6ff43ad05834a8af8a62ffc4167b7b34ef63c37",
            "wav2lip.pth",
            "https://github.com/Rudrabha/Wav2Lip",
            WAV2LIP_TERMS,
        ),
        PublicFile(
            "ca9ab7b7b812c0e80a6e70a5977c545a1e8a365a6c49d5e533023c034d7ac3d8",
            "wav2lip_gan.pth",
            "https://github.com/Rudrabha/Wav2Lip",
            WAV2LIP_TERMS,
        ),
    )
}

UNUSED = {
    "619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543": "S3FD, a face detector",
    "7ebf6c98c181e20838e4c0054e96e944ac60d5d692cc01db42839fe11b787007": "MuseTalk 1.5",
    "0a478e89eb660f82da4c35dbdde8a5adfb27f99d1b4e50edd03729e1e98316d3": "LatentSync 1.6",
    "6440b49a7ccceff56cdc001f5f17605216337f5bbd66fa360139768926e23f51": "LatentSync 1.5",
    "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442": "SyncNet",
}
"""Public files that heygemd knows and has no use for."""


def terms(kind: str, sha256: str) -> tuple[Licence, str | None]:
    """Licence and origin (``None``: unknown) of a model of that kind whose source file has that hash."""
    public = KNOWN.get(sha256)
    if public is not None:
        return public.licence, f"{public.name} of {public.origin}"
    return (INSIGHTFACE_TERMS if kind == "faces" else UNLISTED_WAV2LIP), None
