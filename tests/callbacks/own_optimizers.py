"""Optimizers as a user writes them, which keep their slots in one way or another."""

import keras
import numpy as np
from keras import ops


class Momentum(keras.optimizers.Optimizer):
    """An optimizer as a user writes it; where it keeps its slots is up to subclasses."""

    def build(self, variables):
        super().build(variables)
        self.add_slots(variables)

    def add_slots(self, variables):
        self.slots = [self.add_variable_from_reference(v, name="slot") for v in variables]

    def slot(self, variable):
        return self.slots[self._get_variable_index(variable)]

    def update_step(self, gradient, variable, learning_rate):
        slot = self.slot(variable)
        self.assign(slot, ops.add(ops.multiply(slot, 0.5), gradient))
        self.assign_sub(variable, ops.multiply(slot, ops.cast(learning_rate, variable.dtype)))


class NormsOfUnits(Momentum):
    def add_slots(self, variables):
        self.norms = [self.add_variable((v.shape[-1],), name="norms") for v in variables]


class SlotsByName(Momentum):
    def add_slots(self, variables):
        self.slots = {v.path: self.add_variable_from_reference(v, "slot") for v in variables}


class OneSlotForAll(Momentum):
    def add_slots(self, variables):
        self.add_variable((sum(int(np.prod(v.shape)) for v in variables),), name="all")
