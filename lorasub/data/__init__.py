"""Where batches come from: LightningDataModules for synthetic and real scenes, and the loader pieces they share."""
