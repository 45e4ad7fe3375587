"""All layers, one family per file."""

from graphnn.layers.activation import (
    ELU,
    GELU,
    SELU,
    Activation,
    Affine,
    Exponential,
    HardSigmoid,
    Identity,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    Softmax,
    SoftPlus,
    Swish,
    Tanh,
    activation,
)
from graphnn.layers.arithmetic import (
    Add,
    Average,
    Divide,
    MatMul,
    Multiply,
    ScalarAdd,
    ScalarDivide,
    ScalarMultiply,
    ScalarSubtract,
    Subtract,
)
from graphnn.layers.attention import (
    AttentionWeights,
    DotProductAttention,
    MergeHeads,
    PositionalEmbedding,
    SplitHeads,
)
from graphnn.layers.convolution import Conv1D, Conv2D, Deconv1D, Deconv2D
from graphnn.layers.dropout import Dropout
from graphnn.layers.embedding import Embedding
from graphnn.layers.linear import Linear
from graphnn.layers.normalization import BatchNorm, BatchNorm1D, BatchNorm2D, LayerNorm
from graphnn.layers.pooling import GlobalAveragePool, GlobalMaxPool, Pool1D, Pool2D
from graphnn.layers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from graphnn.layers.shape import Concatenate, Flatten, Pad, Reshape, Slice, Transpose, Zeros
