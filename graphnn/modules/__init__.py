"""Modules: graphs that are layers."""

from graphnn.modules.attention import MultiHeadedAttentionModule
from graphnn.modules.bidirectional_lstm import BidirectionalLSTM
from graphnn.modules.skip_connection import SkipConnectionConvModule, SkipConnectionIdentityModule
from graphnn.modules.wavenet import WavenetResidualModule

__all__ = [
    "BidirectionalLSTM",
    "MultiHeadedAttentionModule",
    "SkipConnectionConvModule",
    "SkipConnectionIdentityModule",
    "WavenetResidualModule",
]
