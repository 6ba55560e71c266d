"""The examples of the OpenAPI page: one for each way of calling, from the files in examples/."""

from typing import Any

import orjson

from app.api.schemas import JsonBand
from app.settings import REPOSITORY

FOLDER = REPOSITORY / "examples"
PATH = "/static/examples"

_TEXT = {"type": "string"}
_FILE = {"type": "string", "format": "binary"}


def _form_example(summary: str, fields: dict[str, str], call: str = "/predict/barrier") -> dict[str, Any]:
    """An example of a form; a value `@NAME` is a file, in the notation of curl."""
    arguments = " ".join(f"-F {name}={value}" for name, value in fields.items())
    links = ", ".join(f"[{value[1:]}]({PATH}/{value[1:]})" for value in fields.values() if value.startswith("@"))
    return {"summary": summary, "description": f"`curl {arguments} ...{call}` with {links}", "value": fields}


_FORM_EXAMPLES = {
    "extended-xyz": _form_example("A band as extended XYZ, one frame per image", {"band": "@LiFePO4_band.extxyz"}),
    "neb-folder": _form_example("A zipped NEB folder: 00/POSCAR to 04/POSCAR", {"band": "@LiFePO4_neb.zip"}),
    "end-points": _form_example("Two end points", {"initial": "@LiFePO4_initial.cif", "final": "@LiFePO4_final.cif"}),
    "crystal": _form_example("A crystal and its ion: every distinct hop", {"structure": "@LiFePO4.cif", "ion": "Li"}),
    "layered-crystal": _form_example("A layered crystal", {"structure": "@LiCoO2.cif", "ion": "Li"}),
}

_FORM_SCHEMA = {
    "type": "object",
    "description": "`band` alone; or `initial` and `final`; or `structure` with `ion`.",
    "properties": {
        "band": {
            **_FILE,
            "description": "XYZ, ASE trajectory, XDATCAR, vasprun.xml or JSON of all images, or a zipped NEB folder.",
        },
        "initial": {**_FILE, "description": "The first end point: a crystal as CIF, POSCAR or JSON."},
        "final": {**_FILE, "description": "The last end point."},
        "structure": {**_FILE, "description": "One crystal: CIF, POSCAR, vasprun.xml, JSON."},
        "ion": {**_TEXT, "example": "", "description": "The migrating element, such as `Li`."},
        "offset": {
            **_TEXT,
            "example": "",
            "description": "For two end points: whole lattice vectors from the first to the last, such as `1,0,0`; "
            "the shortest vector if left out.",
        },
        "cell": {
            **_TEXT,
            "example": "",
            "description": "For files that have no cell (XYZ of CP2K, `.crd` of neb.x), angstrom: `10.3,12,9.4`, with "
            "three angles in degrees, or the nine numbers of its vectors.",
        },
    },
}


PREFER_HEADER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "enum": ["respond-async"]},
    "description": "`respond-async` returns 202 at once; the answer is then at `Location`.",
}


def upload_body() -> dict[str, Any]:
    """The OpenAPI request body of both prediction calls."""
    band = orjson.loads((FOLDER / "LiFePO4_band.json").read_bytes())
    json_examples = {
        "json-band": {
            "summary": "A JSON band: Li hops along b in LiFePO4",
            "description": f"[LiFePO4_band.json]({PATH}/LiFePO4_band.json)",
            "value": band,
        }
    }
    return {
        "required": True,
        "content": {
            "application/json": {"schema": JsonBand.model_json_schema(), "examples": json_examples},
            "multipart/form-data": {"schema": _FORM_SCHEMA, "examples": _FORM_EXAMPLES},
        },
    }


def bulk_body() -> dict[str, Any]:
    """The OpenAPI request body of the call for bulk properties."""
    schema = {
        "type": "object",
        "required": ["structure"],
        "properties": {"structure": {**_FILE, "description": "One ordered crystal: CIF, POSCAR or pymatgen JSON."}},
    }
    shown = _form_example("A crystal", {"structure": "@LiFePO4.cif"}, "/predict/properties")
    return {"required": True, "content": {"multipart/form-data": {"schema": schema, "examples": {"crystal": shown}}}}


def crystal_body() -> dict[str, Any]:
    """The OpenAPI request body of the call for a conductivity."""
    schema = {
        "type": "object",
        "required": ["structure"],
        "properties": {
            "structure": {**_FILE, "description": "One crystal, disordered or not: CIF, POSCAR, pymatgen JSON."},
            "ion": {**_TEXT, "example": "", "description": "The conducting element: `Li`, also if left out."},
        },
    }
    shown = _form_example("A garnet", {"structure": "@Li7La3Zr2O12.cif"}, "/predict/conductivity")
    return {"required": True, "content": {"multipart/form-data": {"schema": schema, "examples": {"crystal": shown}}}}
