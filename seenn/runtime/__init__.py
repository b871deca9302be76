"""Running networks: engines behind one seam, and the session that every run goes through."""

from seenn.runtime.alarm import ALARM_RATE, DriftAlarm
from seenn.runtime.engine import ENGINES, EngineKind, EngineOptions, Section, make_engine
from seenn.runtime.observer import Observer, ScoreTrace, SpikeSums
from seenn.runtime.predictions import Prediction, Predictions
from seenn.runtime.session import Session
from seenn.runtime.slots import DividedSlots, Engine, LayerReport, RoundingEngine, SlotObserver, Slots, StepPart
from seenn.runtime.source import Request

__all__ = [
    "ALARM_RATE",
    "ENGINES",
    "DividedSlots",
    "DriftAlarm",
    "Engine",
    "EngineKind",
    "EngineOptions",
    "LayerReport",
    "Observer",
    "Prediction",
    "Predictions",
    "Request",
    "RoundingEngine",
    "ScoreTrace",
    "Section",
    "Session",
    "SlotObserver",
    "Slots",
    "SpikeSums",
    "StepPart",
    "make_engine",
]
