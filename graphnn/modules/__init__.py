"""Modules: graphs that are layers."""

from graphnn.modules.skip_connection import SkipConnectionConvModule, SkipConnectionIdentityModule
from graphnn.modules.wavenet import WavenetResidualModule
