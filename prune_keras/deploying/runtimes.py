"""Runtimes of other formats: each turns a file into a function from arrays to arrays.

A function takes inputs as the model does, and returns its outputs as a flat list in their order.
Nothing is imported before it is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from keras import tree


def saved_model(path: Path) -> Callable[[Any], list]:
    """Return what a TensorFlow SavedModel computes."""
    import tensorflow as tf

    # Held by the function below, as its endpoint alone does not keep its variables.
    loaded = tf.saved_model.load(str(path))
    return lambda inputs: [np.asarray(each) for each in tree.flatten(loaded.serve(inputs))]


def onnx(path: Path) -> Callable[[Any], list]:
    """Return what ONNX Runtime computes, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, _in_order(inputs, names), strict=True)))


def litert(path: Path) -> Callable[[Any], list]:
    """Return what LiteRT's interpreter computes, in one thread."""
    interpreter = interpreted(path.read_bytes())
    details = interpreter.get_input_details()
    places = [each["index"] for each in details]
    names = [each["name"].removeprefix("serving_default_").split(":")[0] for each in details]

    def call(inputs: Any) -> list:
        arrays = _in_order(inputs, names)
        for place, array in zip(places, arrays, strict=True):
            interpreter.resize_tensor_input(place, array.shape)
        interpreter.allocate_tensors()
        for place, array in zip(places, arrays, strict=True):
            interpreter.set_tensor(place, array)
        interpreter.invoke()
        # The interpreter lists outputs as it likes; the signature numbers or names them.
        made = interpreter.get_signature_runner().get_output_details()
        return [interpreter.get_tensor(made[name]["index"]) for name in sorted(made, key=_place)]

    return call


def interpreted(content: bytes, threads: int = 1) -> Any:
    """Return LiteRT's interpreter of a file: of its own package, or else TensorFlow's."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    with warnings.catch_warnings(action="ignore"):  # TensorFlow's says that it has moved
        return Interpreter(model_content=content, num_threads=threads)


def openvino(path: Path) -> Callable[[Any], list]:
    """Return what OpenVINO computes on the CPU, in float32."""
    import openvino as ov

    # By default it computes in bfloat16 where the processor does so quickly.
    compiled = ov.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    names = [each.any_name for each in compiled.inputs]

    def call(inputs: Any) -> list:
        outputs = compiled(_in_order(inputs, names))
        return [outputs[each] for each in compiled.outputs]

    return call


def _in_order(inputs: Any, names: list[str]) -> list[np.ndarray]:
    """Return flat inputs, those of a dict in the order in which a runtime names them."""
    if isinstance(inputs, dict) and {*inputs} == {*names}:
        return [np.asarray(inputs[name]) for name in names]
    return [np.asarray(each) for each in tree.flatten(inputs)]


def _place(name: str) -> tuple[int, str]:
    """Return what sorts `output_2` before `output_10`, and names as Keras flattens a dict."""
    number = name.removeprefix("output_")
    return (int(number), "") if number.isdecimal() else (0, name)
