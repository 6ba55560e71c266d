"""Whether a CIF is of a modulated structure, whose atoms differ from cell to cell."""

from app.crystals.readers.cif_grammar import Block, is_null

_DIMENSION = "_cell_modulation_dimension"
_WAVE_VECTORS = tuple(f"_cell_wave_vector_{axis}" for axis in "xyz")
_OPERATIONS = ("_space_group_symop_ssg_operation_algebraic", "_space_group_symop_ssg_operation_xyz")


def is_modulated(block: Block) -> bool:
    """Whether a block says so: by its number of modulations, their wave vectors or operations of superspace."""
    dimension = (block.text(_DIMENSION) or "").strip("0")
    return dimension.isdecimal() or any(
        not is_null(text) for key in (*_WAVE_VECTORS, *_OPERATIONS) for text in block.column(key)
    )
