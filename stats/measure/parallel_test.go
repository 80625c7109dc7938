package measure

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
)

// The error is that of the first piece at fault, however the pieces raced.
func TestParallelFindsTheFirstFault(t *testing.T) {
	const first = 17
	for _, workers := range []int{1, 2, 8} {
		later := make(chan struct{})
		err := Parallel(context.Background(), 100, workers, func() *int { return new(int) }, func(w *int, i int) error {
			*w++ // each worker's own: the race detector would tell
			switch {
			case i == first && workers != 1:
				<-later // a later piece fails before this one
				return fmt.Errorf("piece %d", i)
			case i == first+1:
				close(later)
				return fmt.Errorf("piece %d", i)
			case i == first:
				return fmt.Errorf("piece %d", i)
			}
			return nil
		})
		if err == nil || err.Error() != fmt.Sprintf("piece %d", first) {
			t.Errorf("%d workers: error %v, want that of piece %d", workers, err, first)
		}
	}
}

func TestParallelDoesEveryPieceOnce(t *testing.T) {
	for _, workers := range []int{1, 3, 0} {
		counts := make([]atomic.Int32, 50)
		err := Parallel(context.Background(), len(counts), workers, func() int { return 0 }, func(_, i int) error {
			counts[i].Add(1)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range counts {
			if n := counts[i].Load(); n != 1 {
				t.Errorf("%d workers: piece %d was done %d times", workers, i, n)
			}
		}
	}
}

func TestParallelStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var done atomic.Int32
	err := Parallel(ctx, 1000, 2, func() int { return 0 }, func(_, i int) error {
		if done.Add(1) == 3 {
			cancel()
		}
		return nil
	})
	// A piece may be handed out at the very moment, one for each worker.
	if n := done.Load(); !errors.Is(err, context.Canceled) || n > 900 {
		t.Errorf("error %v after %d pieces", err, n)
	}
}
