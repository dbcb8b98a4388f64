"""Files of torch.save: what is read, what is refused, and that nothing runs."""

import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch

from df_export import ExportError, checkpoint, config, official, state, unpickle
from df_export.hydra import Config

from .support import CHECKPOINTS, VIDEO_RUNS, Call, Case, archive, pickled, run_file

CONFIG = CHECKPOINTS / "prediction_paper/.hydra/config.yaml"


class Tensors(Case):
    def check(self, tensors: dict, **options) -> None:
        path = self.folder / "state.pt"
        torch.save(tensors, path, **options)
        read = checkpoint.read(path).tensors
        self.assertEqual(list(read), list(tensors))
        for name, tensor in tensors.items():
            self.assertEqual(read[name].dtype, tensor.dtype)
            self.assertTrue(torch.equal(read[name].read(), tensor), name)

    def test_views_of_one_storage(self) -> None:
        base = torch.arange(24, dtype=torch.float32)
        self.check(
            {
                "whole": base,
                "offset": base[5:11],
                "transposed": base.view(4, 6).t(),
                "strided": base.view(4, 6)[1:3, ::2],
                "scalar": base[7],
                "empty": base[:0],
                "again": base,
            }
        )

    def test_types_of_numbers(self) -> None:
        values = torch.tensor([[0.5, -2, 3], [1, 0, 7]])
        kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
        kinds += (torch.int8, torch.uint8, torch.bool)
        self.check({str(kind): values.to(kind) for kind in kinds})

    def test_parameters_and_later_protocols(self) -> None:
        tensors = OrderedDict(weight=torch.nn.Parameter(torch.randn(3, 2)), buffer=torch.ones(4))
        for protocol in (2, 3, 4, 5):
            self.check(tensors, pickle_protocol=protocol)

    def test_an_official_file_that_pytorch_can_load(self) -> None:
        # Saved weights-only, so there is no OmegaConf in it.
        expected = torch.load(run_file("video_paper"), map_location="cpu")["state_dict"]
        read = checkpoint.read(run_file("video_paper")).tensors
        self.assertEqual(list(read), list(expected))
        for name, tensor in expected.items():
            self.assertTrue(torch.equal(read[name].read(), tensor), name)

    def test_metric_networks_are_left_out(self) -> None:
        path = self.folder / "state.pt"
        names = ("a", "validation_fid_model.b", "validation_fid_model.c", "validation_lpips_model.d")
        torch.save({name: torch.ones(1) for name in names}, path)
        read = checkpoint.read(path)
        self.assertEqual(list(read.tensors), ["a"])
        self.assertEqual(read.ignored, ["validation_fid_model.*", "validation_lpips_model.*"])


class Hostile(Case):
    """Pickles that want something done."""

    def refuse(self, words: str, data: bytes, storages: dict = {}) -> None:
        path = archive(self.folder / "bad.ckpt", data, storages)
        self.assert_refused(words, path, self.out, "--config", CONFIG)

    def test_calls_are_refused_by_name(self) -> None:
        touched = self.folder / "touched"
        calls = {
            f"{os.system.__module__}.system": Call(os.system, f"touch {touched}"),
            "__builtin__.eval": Call(eval, f"open({str(touched)!r}, 'w')"),
            "__builtin__.getattr": Call(getattr, 1, "real"),
            "io.open": Call(io.open, str(touched), "w"),
            "pathlib.PosixPath": Path("/"),
        }
        for name, call in calls.items():
            for content in (call, {"state_dict": {}, "optimizer_states": [{"state": call}]}):
                self.refuse(f"names {name},", pickled(content))
        self.assertFalse(touched.exists())

    def test_ways_to_name_a_function(self) -> None:
        self.refuse("posix.system", b"\x80\x04\x8c\x05posix\x8c\x06system\x93(\x8c\x04true\x85R.")
        self.refuse("posix.system", b"cposix\nsystem\n(U\x04truetR.")
        self.refuse("instruction b'i'", b"(iposix\nsystem\n.")
        self.refuse("instruction b'o'", b"(o.")
        self.refuse("instruction b'\\x82'", b"\x80\x02\x82\x01.")

    def test_a_name_with_control_codes_stays_on_one_line(self) -> None:
        self.refuse(
            "names a.b?[31m?c,",
            b"\x80\x04\x8c\x01a\x8c\x07b\x1b[31m\rc\x93.".replace(b"\x8c\x07", b"\x8c\x08"),
        )

    def test_known_names_are_inert(self) -> None:
        # {"a": NAME("true")}, and the object gets an item, another one by a key, and a state.
        inert = b"}X\x01\0\0\0ac%s\n(X\x04\0\0\0truet%sNaX\x01\0\0\0kNs}bs."
        for name in (b"omegaconf.listconfig\nListConfig", b"__builtin__\nlong", b"typing\nAny"):
            for instruction in (b"R", b"\x81"):
                loaded = unpickle.load(inert % (name, instruction), len, len)
                self.assertEqual(type(loaded["a"]).__name__, "Inert")

    def test_tensors_that_leave_their_storage(self) -> None:
        class Storage:
            pass

        def describe(count: object, offset: object, shape: object, stride: object) -> bytes:
            file = io.BytesIO()
            pickler = pickle.Pickler(file, protocol=2)
            pickler.persistent_id = lambda value: (
                ("storage", torch.FloatStorage, "0", "cuda:7", count) if type(value) is Storage else None
            )
            build = torch._utils._rebuild_tensor_v2
            pickler.dump({"a": Call(build, Storage(), offset, shape, stride, False, OrderedDict())})
            return file.getvalue()

        bytes_of_12 = {"0": bytes(48)}
        good = archive(self.folder / "good.pt", describe(12, 2, (2, 3), (5, 2)), bytes_of_12)
        self.assertEqual(checkpoint.read(good).tensors["a"].read().shape, (2, 3))
        good.unlink()
        for words, numbers in {
            "reaches entry 13 of storage 0, which has 12": (12, 3, (2, 3), (5, 2)),
            "reaches entry 1": (12, 0, (13,), (1,)),
            "reaches entry 1180591620717411303425": (12, 1 << 70, (1,), (1,)),
            "by what is not a storage and sizes": (12, -1, (1,), (1,)),
            "not a storage and sizes": (12, 0, (1,), (-1,)),
            "and sizes": (12, 0, (1, 2), (1,)),
            "sizes": (12, 0, (1.5,), (1,)),
            "lies over itself": (12, 0, (1 << 40,), (0,)),
            "storage 0 has 48 bytes, expected 52": (13, 0, (1,), (1,)),
            "damaged": ("12", 0, (1,), (1,)),
        }.items():
            self.refuse(words, describe(*numbers), bytes_of_12)
        self.refuse("no entry data/0", describe(12, 0, (1,), (1,)))

    def test_what_is_not_a_state_dict(self) -> None:
        self.refuse("expected a dict", pickled([1, 2]))
        self.refuse("that is no tensor", pickled({"a": 1}))
        self.refuse("that is no tensor", pickled({"state_dict": {"a": [1]}}))
        self.refuse("is empty", pickled({"state_dict": {}}))


class Files(Case):
    def refuse(self, words: str, data: bytes) -> None:
        path = self.folder / "bad.ckpt"
        path.write_bytes(data)
        self.assert_refused(words, path, self.out, "--config", CONFIG)

    def test_other_files(self) -> None:
        self.refuse("expected a file of torch.save", b"")
        self.refuse("expected a file of torch.save", b"GIF89a")
        legacy = io.BytesIO()
        torch.save({"a": torch.ones(1)}, legacy, _use_new_zipfile_serialization=False)
        self.refuse("before PyTorch 1.6", legacy.getvalue())
        self.assert_refused("No such file", self.folder / "none.ckpt", self.out)
        self.assert_refused("Is a directory", self.folder, self.out)

    def test_other_archives(self) -> None:
        def zipped(compression=zipfile.ZIP_STORED, **entries: bytes) -> bytes:
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w", compression) as archived:
                for name, data in entries.items():
                    archived.writestr(name.replace("__", "/"), data)
            return file.getvalue()

        empty = pickled({})
        self.refuse("found 0", zipped(readme=b"hello"))
        self.refuse("found 2", zipped(**{"a__data.pkl": empty, "b__data.pkl": empty}))
        self.refuse("big-endian", zipped(**{"a__data.pkl": empty, "a__byteorder": b"big"}))
        self.refuse("compressed", zipped(zipfile.ZIP_DEFLATED, **{"a__data.pkl": pickled([0] * 99)}))

    def test_malformed_checkpoints(self) -> None:
        for name, words in {
            "truncated": "cut off or damaged",
            "wrong_shape": "gru_stack.2.weight_hh: expected shape [48, 16], found [48, 15]",
            "bad_global": "posix.getcwd",
        }.items():
            path = CHECKPOINTS / "malformed" / f"{name}.ckpt"
            self.assert_refused(words, path, self.out, "--config", CONFIG)

    def test_networks_on_images_are_named(self) -> None:
        for run, words in zip(VIDEO_RUNS, ("2D U-Net) is not supported yet", "3D U-Net) is not")):
            self.assert_refused(words, run_file(run), self.out)
            self.assert_refused("supported are planning and prediction", run_file(run), self.out)


class Fuzz(Case):
    """Damage never gets further than one line."""

    def setUp(self) -> None:
        super().setUp()
        self.random = random.Random(1)
        self.data = run_file("prediction_paper").read_bytes()
        self.path = self.folder / "damaged.ckpt"

    def test_cut_anywhere(self) -> None:
        # All entries are before the directory, and without the directory nothing is read.
        places = [*range(0, 300, 7), *(len(self.data) - n for n in range(1, 200, 9))]
        places += [self.random.randrange(len(self.data)) for _ in range(80)]
        for place in places:
            self.path.write_bytes(self.data[:place])
            self.assert_refused("", self.path, self.out, "--config", CONFIG)

    def read(self) -> bool:
        """Is the file on disk accepted? All but ExportError fails the test."""
        try:
            parts = state.split(checkpoint.read(self.path).tensors)
            given = official.Run(Config(CONFIG.read_text()), parts, None, {}).config()
            config.complete(given, config.network(parts), parts, "fuzz")
        except ExportError as error:
            self.assertNotIn("\n", str(error))
            return False
        return True

    def test_flipped_bytes(self) -> None:
        accepted = 0
        directory = len(self.data) - 16000
        for i in range(250):
            damaged = bytearray(self.data)
            for _ in range(self.random.choice((1, 1, 1, 20))):
                low = directory if i % 2 else 0
                damaged[self.random.randrange(low, len(damaged))] ^= 1 << self.random.randrange(8)
            self.path.write_bytes(damaged)
            accepted += self.read()
        self.assertLess(accepted, 250)  # flips in the optimiser's state and in padding do no harm

    def test_damaged_pickles(self) -> None:
        with zipfile.ZipFile(run_file("prediction_paper")) as file:
            entries = {name: file.read(name) for name in file.namelist()}
        good = entries["archive/data.pkl"]
        storages = {name[13:]: data for name, data in entries.items() if "/data/" in name}
        archive(self.path, good, storages)
        self.assertTrue(self.read())
        refused = 0
        for _ in range(400):
            damaged = bytearray(good)
            for _ in range(self.random.choice((1, 1, 3))):
                place = self.random.randrange(len(damaged))
                kind = self.random.randrange(3)
                if kind == 0:
                    damaged[place] = self.random.randrange(256)
                elif kind == 1:
                    del damaged[place : place + self.random.randrange(1, 9)]
                else:
                    damaged[place:place] = damaged[: self.random.randrange(1, 40)]
            try:
                unpickle.load(bytes(damaged), lambda key: len(storages.get(key, b"")), storages.get)
            except ExportError:
                refused += 1
        self.assertGreater(refused, 100)
