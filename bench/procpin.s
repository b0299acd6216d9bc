// Go declares procPin and procUnpin without a body only where assembly may have them.
