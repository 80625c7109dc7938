// Package ggufio reads GGUF model files, whole or split into shards.
package ggufio
