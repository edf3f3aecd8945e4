"""The models that know words, a row each: loader, official files, licence, and how to tell them.

Reading this table imports no model and no torch. A package of its own adds rows by the entry-point group
``domainsam.vocabularies``, where an entry point names a :class:`VocabularySpec` or a list of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from domainsam.foundations import SAM3_LICENCE, SAM3_NOTICE, Marks
from domainsam.licences import RESEARCH_LICENCE
from domainsam.plugins import find_rows

GROUP = "domainsam.vocabularies"
NAMES, MAPS, FINDS = "names", "maps", "finds"
"""What a model can do: say what objects are, say it of every place, find objects by itself."""


@dataclass(frozen=True)
class WordFile:
    """A file that a model is read from, where it is published, and what else it goes by.

    ``also`` are other names of the same content. An empty ``url``: nothing is published.
    """

    file: str
    url: str
    megabytes: int
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class VocabularySpec:
    """One row of the table.

    Parameters
    ----------
    name
        What ``--vocabulary-model`` and :func:`domainsam.vocabulary.load_vocabulary_model` take.
    loader
        ``"module:function"`` with the signature ``(name, path, device, dtype) -> Namer``; ``path``, a file
        or folder, is None unless one was given.
    licence
        Of the weights.
    can
        Of :data:`NAMES`, :data:`MAPS` and :data:`FINDS`.
    files
        Files that are fetched by the user; empty where weights ship with the package.
    marks
        How a file is recognised by its tensors.
    holds
        A folder with all these files in it is recognised as the model's.
    model_type
        A folder whose ``config.json`` says so, or one of these, is (Hugging Face's layout).
    notice
        What is told before it is used.
    reads
        Which words it understands.
    """

    name: str
    loader: str
    licence: str
    can: tuple[str, ...] = (NAMES,)
    files: tuple[WordFile, ...] = ()
    marks: Marks | None = None
    holds: tuple[str, ...] = ()
    model_type: str | tuple[str, ...] | None = None
    notice: str | None = None
    reads: str = "any English words"


OVSAM_ADDRESS = "https://huggingface.co/HarborYuan/ovsam_models/resolve/main"
CLIP_ADDRESS = "https://openaipublic.azureedge.net/clip/models"
OVSAM_LICENCE = "S-Lab License 1.0 (non-commercial)"
SAM2CLIP = WordFile("sam2clip_vith_rn50x16.pth", f"{OVSAM_ADDRESS}/sam2clip_vith_rn50x16.pth", 517)
CLIP_RN50X16 = WordFile(
    "RN50x16.pt",
    f"{CLIP_ADDRESS}/52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa/RN50x16.pt",
    630,
    ("RN50x16.safetensors", "open_clip_pytorch_model.bin", "open_clip_model.safetensors"),
)
SAM_PROMPTS = WordFile(
    "sam_vit_h_4b8939.pth", "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth", 2565
)


def _open_vocabulary(letters: str, file: str, megabytes: int) -> VocabularySpec:
    own = WordFile(file, f"{OVSAM_ADDRESS}/{file}", megabytes)
    return VocabularySpec(
        f"ovsam_{letters}",
        "domainsam.vocabulary.open_vocabulary:load",
        OVSAM_LICENCE,
        files=(SAM2CLIP, own, CLIP_RN50X16, SAM_PROMPTS),
        holds=(SAM2CLIP.file, file),
        notice=f"the weights of ovsam_{letters} are under the {OVSAM_LICENCE}",
    )


VOCABULARIES: dict[str, VocabularySpec] = {
    row.name: row
    for row in (
        VocabularySpec(
            "embedded",
            "domainsam.vocabulary.embedded:load",
            f"{RESEARCH_LICENCE} (trained in part on research-only imagery, see the model card)",
            (NAMES, MAPS),
            notice="the embedded model of words is for research: trained in part on research-only pictures",
            reads="a closed list of words and their synonyms",
        ),
        _open_vocabulary("coco", "clip2sam_coco_rn50x16.pth", 18),
        _open_vocabulary("lvis", "clip2sam_lvis_rn50x16.pth", 18),
        VocabularySpec(
            "samclip",
            "domainsam.vocabulary.sam_clip_words:load",
            "as trained by you; none are published",
            (NAMES, MAPS),
        ),
        VocabularySpec(
            "sam3",
            "domainsam.vocabulary.sam3:load",
            SAM3_LICENCE,
            (NAMES, FINDS),
            # Meta's own folder holds the detector and the tracker, and is called by both.
            model_type=("sam3", "sam3_video"),
            notice=SAM3_NOTICE,
        ),
        VocabularySpec(
            "fake", "domainsam.vocabulary.fake:load", "Apache-2.0", (NAMES, MAPS), reads="names of colours"
        ),
    )
}
"""The rows of this package; ``fake`` is for tests of what is built on top."""


def find_vocabularies() -> dict[str, VocabularySpec]:
    """All rows by name: ours, then those of installed packages. What is broken is logged in a line each."""
    return find_rows(VOCABULARIES, VocabularySpec, GROUP, "model of words")
