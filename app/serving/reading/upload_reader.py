"""Reads one upload from first byte to canonical input; runs in a thread or in a worker process."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from app.crystals.band import Band
from app.crystals.crystal import Crystal, Site
from app.crystals.elements import plain_symbol
from app.crystals.geometry.identity import CanonicalBand, canonical
from app.crystals.hops.bands import crowded_because
from app.crystals.hops.options import USUAL, HopOptions
from app.crystals.hops.search import HopSearch, find_hops
from app.crystals.hops.warnings import bond_doubts, bond_warnings
from app.crystals.limits import Limits
from app.crystals.path_energies import PathEnergies, path_energies, path_warnings
from app.crystals.readers import (
    read_band_file,
    read_crystal,
    read_end_points,
    read_json_band,
    read_ordered_crystal,
)
from app.crystals.readers.reading import Reading
from app.crystals.sites.soundness import BondFaults, band_faults
from app.crystals.validation import band_vacuum, concerted_hop_doubt, image_order_doubt
from app.crystals.writers import band_to_json
from app.errors import FormatError, InputError, IonpathError, TooLargeError
from app.serving.reading.uploads import (
    BandFileUpload,
    BulkUpload,
    CrystalUpload,
    EndPointsUpload,
    JsonBandUpload,
    StoredUpload,
    Upload,
)
from app.storage.rows import pack_input, unpack_input

T = TypeVar("T")

#: A reading besides its arrays, and a site or hop of it: some ten Python objects of some fifty bytes.
_READING_BYTES = 2_000
_OBJECT_BYTES = 500


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How an upload is read.

    Attributes:
        limits: how large it may be.
        keep_input: whether the canonical input is packed for the log.
        with_forms: whether a cache is asked, which needs the canonical form of every band.
        hops: for a crystal, which hops are searched for.
    """

    limits: Limits
    keep_input: bool = True
    with_forms: bool = True
    hops: HopOptions = USUAL


@dataclass(frozen=True, kw_only=True, eq=False)
class CrystalInput:
    """A crystal and the hops of its ion."""

    crystal: Crystal
    search: HopSearch


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadInput:
    """What an upload holds, ready to predict and to log.

    Attributes:
        content: the band as it was uploaded, or the crystal with its hops.
        warnings: what was noticed.
        packed: the canonical input, compressed; None where inputs are not kept.
        forms: the canonical form of each of `bands`, in order; none where no cache is asked.
        doubt: why the prediction of a band is out of the domain, whatever the model says; None without doubt, and of a
            crystal, whose hops have doubts of their own.
        energies: of the images of a band, where its file has them.
    """

    content: Band | CrystalInput
    warnings: tuple[str, ...]
    packed: bytes | None
    forms: tuple[CanonicalBand, ...] = ()
    doubt: str | None = None
    energies: PathEnergies | None = None

    @property
    def ion(self) -> str:
        """Element symbol of the migrating ion."""
        return self.content.ion if isinstance(self.content, Band) else self.content.search.ion

    @property
    def formula(self) -> str:
        """Of the atoms that were sent."""
        return self.content.formula if isinstance(self.content, Band) else self.content.crystal.formula

    @property
    def bands(self) -> tuple[Band, ...]:
        """What a model predicts of it: the band, or those of each hop that has some."""
        if isinstance(self.content, Band):
            return (self.content,)
        return tuple(band for hop in self.content.search.hops for band in hop.bands if band is not None)

    @property
    def size_bytes(self) -> int:
        """About how many bytes it takes in memory."""
        own = _READING_BYTES + len(self.packed or b"") + 2 * sum(map(_band_bytes, self.bands))
        if isinstance(self.content, Band):
            return own
        search = self.content.search
        return own + _OBJECT_BYTES * (len(self.content.crystal.sites) + len(search.hops) + len(search.all_hops))


def read_upload(upload: Upload, options: ReadOptions) -> ReadInput:
    """Read an upload of any kind.

    Raises:
        InputError: what was sent cannot be read or is invalid.
    """
    if isinstance(upload, CrystalUpload):
        return _read_crystal(upload, options)
    if isinstance(upload, StoredUpload):
        return _read_stored(upload, options)
    if isinstance(upload, JsonBandUpload):
        reading = read_json_band(upload.payload, options.limits)
    elif isinstance(upload, BandFileUpload):
        reading = read_band_file(upload.file, options.limits)
    else:
        reading = _read_end_points(upload, options.limits)
    band = reading.band
    vacuum = band_vacuum(band)
    vacuum_warnings = () if vacuum is None else (f"The band is not in a bulk crystal: {vacuum}.",)
    faults = band_faults(band)
    return ReadInput(
        content=band,
        warnings=(
            *reading.warnings,
            *path_warnings(reading.energies_ev),
            *vacuum_warnings,
            *bond_warnings(faults),
        ),
        packed=pack_input(_band_to_json(reading)) if options.keep_input else None,
        forms=(canonical(band),) if options.with_forms else (),
        doubt=_doubt(band, vacuum, faults),
        energies=path_energies(reading.energies_ev),
    )


def _band_to_json(reading: Reading) -> dict[str, Any]:
    """A band as it is kept with its prediction, in the form of a JSON band."""
    energies = {"image_energies_ev": list(reading.energies_ev)} if reading.energies_ev else {}
    return band_to_json(reading.band) | energies


def read_or_refuse(
    upload: Upload, options: ReadOptions, read: Callable[[Upload, ReadOptions], ReadInput] = read_upload
) -> ReadInput | IonpathError:
    """Read an upload and give errors back as values, so that whatever a library raises can leave the process."""
    return _guarded(lambda: read(upload, options))


def read_bulk_or_refuse(upload: BulkUpload, options: ReadOptions) -> Crystal | IonpathError:
    """Read an ordered crystal, and give errors back as values."""
    return _guarded(lambda: read_ordered_crystal(upload.file, options.limits))


def _guarded(read: Callable[[], T]) -> T | IonpathError:
    try:
        return read()
    except IonpathError as error:
        return error
    except MemoryError:
        return TooLargeError(
            "Reading this input took more memory than one reading process has (IONPATH_PARSE_MEMORY_MIB).",
            kind="reading-took-too-much-memory",
        )
    except Exception as error:  # noqa: BLE001 # a crystal library may raise anything at a malformed file
        return FormatError(
            f"The input cannot be read: {type(error).__name__}: {str(error)[:200]}",
            kind="unreadable-input",
            expected="a file that other crystal programs open",
        )


def _read_end_points(upload: EndPointsUpload, limits: Limits) -> Reading:
    return read_end_points(upload.initial, upload.final, limits, ion=upload.ion, offset=upload.offset)


def _read_crystal(upload: CrystalUpload, options: ReadOptions) -> ReadInput:
    crystal = read_crystal(upload.file, options.limits, upload.ion)
    if upload.must_hold_ion and upload.ion is not None:
        check_holds(crystal, plain_symbol(upload.ion, "ion"))
    return _with_hops(crystal, upload.ion, options)


def check_holds(crystal: Crystal, ion: str) -> None:
    """Refuse a crystal that does not contain an ion.

    Raises:
        InputError: kind "ion-absent".
    """
    if not crystal.contains(ion):
        raise InputError(
            f"There is no {ion} in {crystal.formula} that could conduct.",
            kind="ion-absent",
            where="form field structure",
            expected=f"a crystal that contains {ion}; POST /predict/barrier predicts how an ion that is added hops",
        )


def _with_hops(crystal: Crystal, ion: str | None, options: ReadOptions) -> ReadInput:
    search = find_hops(crystal, ion, options.hops, max_atoms=options.limits.max_atoms)
    read = ReadInput(
        content=CrystalInput(crystal=crystal, search=search),
        warnings=search.warnings,
        packed=pack_input(_crystal_to_json(crystal, search.ion, options)) if options.keep_input else None,
    )
    return replace(read, forms=tuple(map(canonical, read.bands))) if options.with_forms else read


def _crystal_to_json(crystal: Crystal, ion: str, options: ReadOptions) -> dict[str, object]:
    """A crystal as it is kept with its prediction: every site of the cell and what was asked about it."""
    return {
        "lattice_angstrom": crystal.lattice_angstrom,
        "sites": [{"species": dict(site.species), "frac_coords": site.frac_coords} for site in crystal.sites],
        "ion": ion,
        **asdict(options.hops),
    }


def _read_stored(upload: StoredUpload, options: ReadOptions) -> ReadInput:
    """Rebuild what the log keeps, exactly: nothing is unwrapped, matched or checked a second time."""
    record: dict[str, Any] = unpack_input(upload.packed)
    if "sites" in record:
        crystal = Crystal(
            lattice_angstrom=np.array(record["lattice_angstrom"]),
            sites=tuple(
                Site(species=tuple(site["species"].items()), frac_coords=tuple(site["frac_coords"]))
                for site in record["sites"]
            ),
        )
        asked = {field.name: record[field.name] for field in fields(HopOptions) if field.name in record}
        return _with_hops(crystal, record["ion"], replace(options, hops=HopOptions(**asked)))
    relaxed = record.get("relaxed_host_frac_coords")
    band = Band(
        lattice_angstrom=np.array(record["lattice_angstrom"]),
        host_species=tuple(record["host_species"]),
        host_frac_coords=np.array(record["host_frac_coords"]),
        ion=record["ion"],
        image_frac_coords=np.array(record["image_frac_coords"]),
        relaxed_host_frac_coords=None if relaxed is None else np.array(relaxed),
    )
    doubt = _doubt(band, band_vacuum(band), band_faults(band))
    return ReadInput(content=band, warnings=(), packed=upload.packed, forms=(canonical(band),), doubt=doubt)


def _doubt(band: Band, vacuum: str | None, faults: BondFaults) -> str | None:
    """Why the model's answer for a band is in doubt, beside what the model says of it."""
    crowded = crowded_because(band) if faults.close_atoms else ()
    doubts = (vacuum, concerted_hop_doubt(band), image_order_doubt(band), *crowded, *bond_doubts(faults))
    return "; ".join(one for one in doubts if one is not None) or None


def _band_bytes(band: Band) -> int:
    arrays = (band.lattice_angstrom, band.host_frac_coords, band.image_frac_coords, band.relaxed_host_frac_coords)
    return sum(array.nbytes for array in arrays if array is not None) + 8 * len(band.host_species)
