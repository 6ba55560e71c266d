// The orientation of a crystal on the screen.

export const unit = (vector) => vector.map((value) => value / Math.hypot(...vector));

/** The rotation, as (x, y, z, w), that turns one direction towards the viewer and another upwards. */
export function quaternion(towards, up) {
  const dot = (u, v) => u.reduce((sum, value, axis) => sum + value * v[axis], 0);
  const cross = (u, v) => [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
  const z = unit(towards);
  const y = unit(up.map((value, axis) => value - dot(up, z) * z[axis]));
  const x = cross(y, z);
  const m = [x, y, z]; // rows: the matrix from the crystal to the screen
  const w = Math.sqrt(Math.max(0, 1 + m[0][0] + m[1][1] + m[2][2])) / 2;
  if (w > 1e-3) return [(m[2][1] - m[1][2]) / (4 * w), (m[0][2] - m[2][0]) / (4 * w), (m[1][0] - m[0][1]) / (4 * w), w];
  const i = [0, 1, 2].reduce((best, axis) => (m[axis][axis] > m[best][best] ? axis : best), 0);
  const [j, k] = [(i + 1) % 3, (i + 2) % 3];
  const largest = Math.sqrt(Math.max(0, 1 + m[i][i] - m[j][j] - m[k][k])) / 2;
  const q = [0, 0, 0, (m[k][j] - m[j][k]) / (4 * largest)];
  q[i] = largest;
  q[j] = (m[j][i] + m[i][j]) / (4 * largest);
  q[k] = (m[k][i] + m[i][k]) / (4 * largest);
  return q;
}
