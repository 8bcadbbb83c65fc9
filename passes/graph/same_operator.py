"""Whether a node means the same in two opsets, as far as the schemas tell, and as reviewed where they do not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet

from onnx import TensorProto, defs, helper

from ...ir import Node, Value

DtypeOf = Callable[[Value], int | None]
_SAME = ("SAME_UPPER", "SAME_LOWER")
_VARIADIC = defs.OpSchema.FormalParameterOption.Variadic
_OPTIONAL = defs.OpSchema.FormalParameterOption.Optional


def superfluous(node: Node, old: int, new: int) -> tuple[str, ...]:
    """The attributes of a node that spell out their default of opset `old` and that opset `new` does not have."""
    if not defs.has(node.op_type, old) or not defs.has(node.op_type, new):
        return ()
    before, after = defs.get_schema(node.op_type, old), defs.get_schema(node.op_type, new)
    return tuple(
        name
        for name, attribute in node.attributes.items()
        if name in before.attributes and name not in after.attributes and not attribute.ref
        if before.attributes[name].default_value.name
        and helper.get_attribute_value(before.attributes[name].default_value)
        == helper.get_attribute_value(attribute.proto)
    )


def means_the_same(
    node: Node, old: int, new: int, dtype_of: DtypeOf | None = None, *, without: Collection[str] = ()
) -> bool:
    """Whether a node of the standard domain keeps its meaning from opset `old` to `new`, both 7 or above.

    It does if the operator has the same inputs and outputs, by name, in types that the new version takes too, and the
    same attributes, of the same type and with the same default; one that is gone must be left out by the node. A new
    optional attribute stands for the old behaviour where it is left out: that is how onnx extends operators. Where it
    is not, `_REVIEWED` says so. Downwards it does if the node uses nothing that the older version lacks.

    `dtype_of` tells element types, for versions that take fewer of them; attributes named in `without` do not count.
    """
    if not defs.has(node.op_type, old) or not defs.has(node.op_type, new):
        return False
    low, high = (defs.get_schema(node.op_type, version) for version in sorted((old, new)))
    if low.since_version == high.since_version:
        return True
    return (
        not low.deprecated
        and not high.deprecated
        and not _is_reviewed_exception(node, low.since_version, high.since_version)
        and (_same_ports(low, high) or _is_renamed(node, low.since_version))
        and all(_takes(node, schema) for schema in (low, high))
        and _same_types(node, *((low, high) if old < new else (high, low)), dtype_of)
        and _same_attributes(node.attributes.keys() - set(without), low, high)
    )


# ---- what the schemas do not tell


def _pads_the_other_side(node: Node) -> bool:
    return node.attr("auto_pad") in _SAME


def _rounds_up(node: Node) -> bool:
    return bool(node.attr("ceil_mode", 0))


def _has_no_sizes(node: Node) -> bool:
    return node.input(1) is None


def _has_a_mode_that_is_gone(node: Node) -> bool:
    return bool(node.attr("coordinate_transformation_mode") == "tf_half_pixel_for_nn")


def _always(node: Node) -> bool:
    return True


def _is_more_than_plain(node: Node) -> bool:
    return len(node.outputs) > 1 or len(node.inputs) > 4 or bool(node.attr("is_causal", 0))


def _floors(node: Node) -> bool:
    return not node.attr("fmod", 0)


_REVIEWED: dict[str, tuple[tuple[int, Callable[[Node], bool]], ...]] = {
    "Attention": ((24, _is_more_than_plain), (25, _is_more_than_plain)),  # masks of caches, what outputs show
    "AveragePool": ((19, _rounds_up), (22, _rounds_up)),  # windows over the edge: what they count, and how many
    "ConvTranspose": ((11, _pads_the_other_side),),  # odd padding goes to the other side
    "GroupNormalization": ((21, _always),),  # scale and bias are per channel, no longer per group
    "LpPool": ((22, _rounds_up),),
    "MaxPool": ((22, _rounds_up),),
    "Mod": ((28, _floors),),  # of floats, that is new
    "Resize": ((13, _has_a_mode_that_is_gone),),
    "RoiAlign": ((16, _always),),  # its new attribute stands for another rule of coordinates
    "Split": ((18, _has_no_sizes),),  # the number of parts must be told
}
"""Versions that changed the meaning of some nodes under a signature that tells nothing."""


def _is_reviewed_exception(node: Node, low: int, high: int) -> bool:
    return any(low < version <= high and changed(node) for version, changed in _REVIEWED.get(node.op_type, ()))


def _is_renamed(node: Node, low: int) -> bool:
    """BatchNormalization in inference, whose inputs have other names since version 14."""
    is_inference = len(node.outputs) == 1 and not node.attr("training_mode", 0)
    return node.op_type == "BatchNormalization" and low >= 9 and is_inference


# ---- what they tell


def _same_ports(low: defs.OpSchema, high: defs.OpSchema) -> bool:
    """Whether the ports of the older version are the first of the newer one."""
    return all(
        len(old) <= len(new)
        and all(
            a.name == b.name and (a.option == b.option or b.option == _OPTIONAL) for a, b in zip(old, new, strict=False)
        )
        for old, new in ((low.inputs, high.inputs), (low.outputs, high.outputs))
    )


def _takes(node: Node, schema: defs.OpSchema) -> bool:
    """Whether a version has the ports that the node uses."""
    inputs, outputs = _without_omitted(node.inputs), [value for value in node.outputs if value.name]
    return (
        schema.min_input <= len(node.inputs)
        and len(inputs) <= schema.max_input
        and schema.min_output <= len(outputs) <= schema.max_output
        and all(
            value is not None or slot >= len(schema.inputs) or schema.inputs[slot].option == _OPTIONAL
            for slot, value in enumerate(inputs)
        )
    )


def _without_omitted(values: Sequence[Value | None]) -> list[Value | None]:
    """The inputs up to the last that is there."""
    found = list(values)
    while found and found[-1] is None:
        found.pop()
    return found


def _same_types(node: Node, before: defs.OpSchema, after: defs.OpSchema, dtype_of: DtypeOf | None) -> bool:
    """Whether `after` takes what `before` takes; or at least what the node reads and gives."""
    for a, b, used in ((before.inputs, after.inputs, node.inputs), (before.outputs, after.outputs, node.outputs)):
        for slot, value in enumerate(used):
            if value is None or not value.name:
                continue
            old, new = _port(a, slot), _port(b, slot)
            if old is None or new is None:
                return False
            allowed = _types(after, new.type_str)
            if not _types(before, old.type_str) <= allowed and _type_name(value, dtype_of) not in allowed:
                return False
    return True


def _port(ports: Sequence[defs.OpSchema.FormalParameter], slot: int) -> defs.OpSchema.FormalParameter | None:
    if slot < len(ports):
        return ports[slot]
    return ports[-1] if ports and ports[-1].option == _VARIADIC else None


def _type_name(value: Value, dtype_of: DtypeOf | None) -> str:
    dtype = None if dtype_of is None else dtype_of(value)
    return "" if dtype is None else f"tensor({TensorProto.DataType.Name(dtype).lower()})"


def _types(schema: defs.OpSchema, type_str: str) -> set[str]:
    constraint = next((c for c in schema.type_constraints if c.type_param_str == type_str), None)
    return {type_str} if constraint is None else set(constraint.allowed_type_strs)


def _same_attributes(given: AbstractSet[str], low: defs.OpSchema, high: defs.OpSchema) -> bool:
    """A changed default is a warning even where the node sets the attribute: Softmax changed its meaning with it."""
    for name, old in low.attributes.items():
        new = high.attributes.get(name)
        if new is None and (name in given or _default(old)):
            return False
        if new is not None and (new.type != old.type or _default(new) != _default(old)):
            return False
    added = high.attributes.keys() - low.attributes.keys()
    return not any(high.attributes[name].required for name in added) and given <= low.attributes.keys()


def _default(attribute: defs.OpSchema.Attribute) -> bytes:
    default: bytes = attribute.default_value.SerializeToString(deterministic=True)
    return default
