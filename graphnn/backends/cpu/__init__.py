"""The CPU engine: Plans become native code through LLVM."""
