"""Calling machine code by its address, so that a caller need not be compiled for each callee.

A chunk's address and its arguments are values in whatever calls it. The shell that shares tasks
among threads (threads.py) is compiled once for all types: it gets the arguments' place in memory
and the address of a few instructions, made in the caller, that take them from there.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic


def address_of(function: Any, signature: tuple[Any, ...]) -> int:
    """Address of a function's machine code for arguments of these types; compiles it at need.

    Under Numba's lock, which forks wait for (threads.py): LLVM's own, taken to find the address,
    would stay shut in a child.
    """
    function.compile(signature)
    compiled = function.overloads[signature]
    with global_compiler_lock:
        return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


def _call(context, builder, address, task, args, kind):
    """The code that calls a chunk with (task, *args), a tuple of Numba's type `kind`.

    Arrays come without what counts their references, which the caller holds: each slice that a
    chunk takes would change a count that all threads share.
    """
    argtypes = (types.intp, *kind.types)
    unpacked = []
    for i, argument in enumerate(kind.types):
        value = builder.extract_value(args, i)
        if isinstance(argument, types.Array):
            for owner in range(2):  # the block of memory, the Python object
                nobody = builder.extract_value(value, owner).type(None)
                value = builder.insert_value(value, nobody, owner)
        unpacked.append(value)
    convention = context.call_conv
    pointer = convention.get_function_type(types.none, argtypes).as_pointer()
    status, _ = convention.call_function(
        builder, builder.inttoptr(address, pointer), types.none, argtypes, [task, *unpacked]
    )
    return builder.zext(status.is_error, context.get_value_type(types.intp))


def _call_chunk_typer(typingctx, address, task, args):
    """Call the compiled chunk at `address` with (task, *args); 1 if it failed, else 0."""

    def codegen(context, builder, signature, values):
        address, task, args = values
        return _call(context, builder, address, task, args, signature.args[2])

    return types.intp(types.intp, types.intp, args), codegen


def emit_shell_call(context, builder, values, args, one_task):
    """Call a shell, values (its address, chunk's address, tasks, threads), for chunks with `args`.

    The shell finds `args`, any LLVM value, in memory, by a function made here that takes (place of
    args, address of the chunk, task) and does `one_task(builder, args, address, task)`.
    """
    shell, address, tasks, threads = values
    word = context.get_value_type(types.intp)
    place = cgutils.alloca_once_value(builder, args)
    name = builder.module.get_unique_name("fastcnn_caller")
    caller = ir.Function(builder.module, ir.FunctionType(word, [word] * 3), name)
    caller.linkage = "internal"
    inner = ir.IRBuilder(caller.append_basic_block())
    at, chunk, task = caller.args
    loaded = inner.load(inner.inttoptr(at, args.type.as_pointer()), typ=args.type)
    inner.ret(one_task(inner, loaded, chunk, task))
    words = [builder.ptrtoint(p, word) for p in (caller, place)]
    argtypes = (types.intp,) * 5
    convention = context.call_conv
    pointer = convention.get_function_type(types.intp, argtypes).as_pointer()
    status, failures = convention.call_function(
        builder, builder.inttoptr(shell, pointer), types.intp, argtypes,
        [*words, address, tasks, threads],
    )  # fmt: skip
    return builder.select(status.is_error, tasks, failures)


def _call_shell_typer(typingctx, shell, address, tasks, threads, args):
    """All tasks of the chunk at `address`, with (task, *args), by the shell at address `shell`."""

    def codegen(context, builder, signature, values):
        *addresses, args = values

        def one_task(inner, loaded, chunk, task):
            return _call(context, inner, chunk, task, loaded, signature.args[4])

        return emit_shell_call(context, builder, addresses, args, one_task)

    return types.intp(types.intp, types.intp, types.intp, types.intp, args), codegen


def _call_at_typer(typingctx, caller, place, address, task):
    """Call what `emit_shell_call` made."""

    def codegen(context, builder, signature, values):
        caller, *arguments = values
        word = context.get_value_type(types.intp)
        pointer = ir.FunctionType(word, [word] * 3).as_pointer()
        return builder.call(builder.inttoptr(caller, pointer), arguments)

    return types.intp(types.intp, types.intp, types.intp, types.intp), codegen


call_chunk: Any = intrinsic(_call_chunk_typer)
call_shell: Any = intrinsic(_call_shell_typer)
call_at: Any = intrinsic(_call_at_typer)
