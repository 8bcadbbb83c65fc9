"""Whether a node means the same in two opset versions, as far as the schemas tell."""

from __future__ import annotations

from onnx import defs

from ...ir import Node

_SAME = ("SAME_UPPER", "SAME_LOWER")


def means_the_same(node: Node, old: int, new: int) -> bool:
    """Whether a node of the standard domain keeps its meaning from opset `old` to `new`, both 7 or above.

    It does if the operator has the same inputs and outputs, by name, in types that the new version takes too, and the
    same attributes, of the same type and with the same default; one that is gone must be left out by the node. A new
    optional attribute stands for the old behaviour where it is left out: that is how onnx extends operators.
    """
    if not defs.has(node.op_type, old) or not defs.has(node.op_type, new):
        return False
    before, after = defs.get_schema(node.op_type, old), defs.get_schema(node.op_type, new)
    if before.since_version == after.since_version:
        return True
    return (
        not after.deprecated
        and not _is_reviewed_exception(node, before.since_version)
        and _same_ports(before, after)
        and after.min_input <= len(node.inputs)
        and after.min_output <= len(node.outputs)
        and _same_attributes(node, before, after)
    )


def _is_reviewed_exception(node: Node, since: int) -> bool:
    """ConvTranspose before 11 splits odd padding the other way round, under the same signature."""
    return node.op_type == "ConvTranspose" and since < 11 and node.attr("auto_pad") in _SAME


def _same_ports(before: defs.OpSchema, after: defs.OpSchema) -> bool:
    return all(
        len(old) <= len(new)
        and all(
            a.name == b.name
            and (a.option == b.option or b.option == defs.OpSchema.FormalParameterOption.Optional)
            and _types(before, a.type_str) <= _types(after, b.type_str)
            for a, b in zip(old, new, strict=False)
        )
        for old, new in ((before.inputs, after.inputs), (before.outputs, after.outputs))
    )


def _types(schema: defs.OpSchema, type_str: str) -> set[str]:
    constraint = next((c for c in schema.type_constraints if c.type_param_str == type_str), None)
    return {type_str} if constraint is None else set(constraint.allowed_type_strs)


def _same_attributes(node: Node, before: defs.OpSchema, after: defs.OpSchema) -> bool:
    """A changed default is a warning even where the node sets the attribute: Softmax changed its meaning with it."""
    for name, old in before.attributes.items():
        new = after.attributes.get(name)
        if new is None and (name in node.attributes or _default(old)):
            return False
        if new is not None and (new.type != old.type or _default(new) != _default(old)):
            return False
    added = after.attributes.keys() - before.attributes.keys()
    return (
        not any(after.attributes[name].required for name in added)
        and node.attributes.keys() <= before.attributes.keys()
    )


def _default(attribute: defs.OpSchema.Attribute) -> bytes:
    default: bytes = attribute.default_value.SerializeToString(deterministic=True)
    return default
