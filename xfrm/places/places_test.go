package places

import (
	"slices"
	"testing"
)

func TestPlaces(t *testing.T) {
	numbers := []uint32{7, 0, 1<<32 - 1, 7, 3, 0, 7}
	p := Of(len(numbers), func(place int) (uint32, bool) { return numbers[place], place != 3 })
	for number, want := range map[uint32][]int{7: {0, 6}, 0: {1, 5}, 1<<32 - 1: {2}, 3: {4}, 4: nil} {
		if got := slices.Collect(p.At(number)); !slices.Equal(got, want) {
			t.Errorf("%d is at %v, want %v", number, got, want)
		}
	}
	for range p.At(7) {
		break
	}
	if got := slices.Collect(Of(0, nil).At(0)); got != nil {
		t.Errorf("an empty list has %v", got)
	}
}
