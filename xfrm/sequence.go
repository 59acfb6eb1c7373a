package xfrm

// sequence is the places of the groups that the policies or the states of a snapshot
// are of, in their order, with none for records of no group. They mostly come as
// they came the last time, so most groups need not be looked up.
type sequence struct {
	now, before []int32
	// next is the one of those before that is likely to come next.
	next int
}

// maxGone is how many in a row may be gone before the next is looked up.
const maxGone = 4

// begin readies the sequence for a snapshot.
func (q *sequence) begin() { q.now, q.before, q.next = q.before[:0], q.now, 0 }

// pass notes one that is of no group.
func (q *sequence) pass() {
	if q.next < len(q.before) && q.before[q.next] == none {
		q.next++
	}
	q.now = append(q.now, none)
}
