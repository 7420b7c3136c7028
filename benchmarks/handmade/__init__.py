"""The hand-made service that Retinue is measured against."""
