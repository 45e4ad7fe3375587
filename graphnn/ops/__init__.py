"""The primitive ops, one class each, and the functions that layers are written with."""

from graphnn.ops.arithmetic import add, divide, maximum, minimum, multiply, power, remainder, subtract
from graphnn.ops.comparison import (
    equal,
    greater,
    greater_equal,
    is_inf,
    is_nan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
)
from graphnn.ops.convolution import convolution, resolve_padding, transposed_convolution
from graphnn.ops.creation import fill, iota
from graphnn.ops.elementwise import (
    absolute,
    ceil,
    cos,
    erf,
    exp,
    expm1,
    floor,
    log,
    log1p,
    negative,
    round_,
    sigmoid,
    sign,
    sin,
    sqrt,
    tanh,
    where,
)
from graphnn.ops.linalg import matmul
from graphnn.ops.op import Op, Tensor
from graphnn.ops.indexing import cumulative_sum, gather, gather_along, one_hot
from graphnn.ops.pooling import average_pool, max_pool
from graphnn.ops.random import random_bits, random_keep_mask, random_normal, random_uniform
from graphnn.ops.reduction import argmax, log_softmax, mean, softmax, squared_norm
from graphnn.ops.shape import concatenate, flip, pad
from graphnn.ops.sorting import argsort, sort, top_k
