import pytest
import torch

from quire_kernels import DeviceError, DtypeError, KernelError, ShapeError
from quire_kernels._checks import Checks


def test_a_name_stands_for_one_size() -> None:
    checks = Checks("op")
    checks.require("q", torch.zeros(5, 4), "[T, D]", torch.float32)
    checks.require("starts", torch.zeros(6), "[T+1]", torch.float32)
    assert (checks["T"], checks["D"]) == (5, 4)


def test_an_error_names_the_op_the_tensor_the_size_and_who_set_it() -> None:
    checks = Checks("op")
    checks.require("q", torch.zeros(5, 4), "[T, D]", torch.float32)
    message = r"^op: starts has shape \[5\], read as \[T\+1\], but q makes T 5; pass 6 where 5 stands$"
    with pytest.raises(ShapeError, match=message):
        checks.require("starts", torch.zeros(5), "[T+1]", torch.float32)


def test_every_refusal_is_a_kernel_error_and_a_python_error_of_its_kind() -> None:
    assert issubclass(ShapeError, KernelError)
    assert issubclass(ShapeError, ValueError)
    assert issubclass(DtypeError, TypeError)
    assert issubclass(DeviceError, ValueError)
