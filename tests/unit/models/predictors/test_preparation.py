"""Bands that are prepared together are prepared as each is alone, and what is wrong with one is its own."""

from dataclasses import fields, replace

import numpy as np
from bands import rock_salt

from app.crystals.band import Band
from app.errors import InputError
from app.models.cards.card import read_card
from app.models.predictors.preparation import HopPreparation, PreparedBand, prepared_together
from app.settings import Settings


def bands() -> list[Band]:
    void = replace(rock_salt(), lattice_angstrom=np.eye(3) * 400.0)
    moved = replace(rock_salt(), image_frac_coords=rock_salt().image_frac_coords + 0.01)
    return [rock_salt(), void, moved]


def preparation() -> HopPreparation:
    return HopPreparation(domain=read_card(Settings().model_store / "default").domain)


def test_bands_are_prepared_together_as_each_alone_and_fail_alone() -> None:
    first, void, moved = prepared_together(preparation(), bands())
    assert isinstance(void, InputError)
    assert void.kind == "no-host-near-path"
    for found, band in ((first, bands()[0]), (moved, bands()[2])):
        assert isinstance(found, PreparedBand)
        alone = preparation()(band)
        assert (found.cost, found.reasons_outside) == (alone.cost, alone.reasons_outside)
        np.testing.assert_allclose(found.inputs.path, alone.inputs.path, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(found.inputs.eased, alone.inputs.eased, rtol=1e-9, atol=1e-10)
        for field in fields(alone.inputs.bonds):
            one, other = (getattr(inputs.bonds, field.name) for inputs in (found.inputs, alone.inputs))
            np.testing.assert_allclose(one, other, atol=1e-6, err_msg=field.name)
    assert prepared_together(preparation(), []) == []


def test_another_preparation_takes_one_after_the_other() -> None:
    def refuses(band: Band) -> PreparedBand:
        if band.lattice_angstrom[0, 0] > 100.0:
            raise InputError("too wide", kind="too-wide")
        return PreparedBand(inputs=band, cost=1, reasons_outside=())

    first, void, moved = prepared_together(refuses, bands())
    assert isinstance(void, InputError)
    assert isinstance(first, PreparedBand)
    assert isinstance(moved, PreparedBand)
